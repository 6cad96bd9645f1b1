"""SAM in the `Trainer` of transformers, which runs `backward` before it asks the optimizer to step."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import Trainer

from lets_runner.optim.engine.wrapper import OptimizerWrapper


class StepTaken(OptimizerWrapper):
    """Takes steps in `take`: when the Trainer calls `step`, `training_step` has taken it."""

    def take(self, train: Any, val: Any) -> Tensor:
        inner: Any = self.inner
        return inner.step(train, val)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        pass


class SAMTrainer(Trainer):
    """A `Trainer` that trains with SAM or a radius rule, on one device.

        trainer = SAMTrainer(
            model=model, args=args, train_dataset=train, sam=lambda base, model: SAM(base, model=model)
        )

    The base optimizer is the one that `args` asks for. Accumulated microbatches are one batch, as everywhere in SAM,
    weighed by the labels that count in each: `compute_loss` must give the mean over these.
    `args.max_grad_norm` is ignored (`SAM(max_grad_norm=...)`), and with `args.fp16` losses are not scaled
    (`SAM(loss_scale="dynamic")`).

    Args:
        sam: makes the optimizer of a base optimizer and the model.
        val_dataset: what a rule that learns ρ validates on, in batches of the training size; shuffled, endless, and
            begun again by a run that resumes.

    Raises:
        ValueError: more than one device.
    """

    def __init__(
        self,
        *args: Any,
        sam: Callable[[Optimizer, nn.Module], Any],
        val_dataset: Any = None,
        **settings: Any,
    ):
        super().__init__(*args, **settings)
        if self.args.world_size > 1 or self.args.n_gpu > 1:
            raise ValueError("SAMTrainer trains on one device: start one process, with one visible GPU")
        self.args.max_grad_norm = 0.0
        self._sam, self._val_dataset = sam, val_dataset
        self._closures: list[Callable[[], Tensor]] = []
        self._val_batches: Iterator[Any] | None = None

    def create_optimizer(self, *args: Any, **settings: Any) -> Optimizer:
        if self.optimizer is None:
            base = super().create_optimizer(*args, **settings)
            assert self.model is not None
            self.optimizer = StepTaken(self._sam(base, self.model))
        return self.optimizer

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Take a step where the accumulated microbatches are complete; returns its loss, and 0 for the others."""
        model.train()
        batch = self._prepare_inputs(inputs)
        weight = 1.0
        if num_items_in_batch is not None:  # parts of a batch may differ in how many labels count
            counted: Any = self._get_num_items_in_batch([batch], self.args.device)
            weight = counted * self.current_gradient_accumulation_steps / num_items_in_batch
        self._closures.append(partial(self._mean_loss, model, batch, weight))
        if not self.accelerator.sync_gradients:
            return torch.zeros((), device=self.args.device)
        closures, self._closures = self._closures, []
        assert isinstance(self.optimizer, StepTaken)
        return self.optimizer.take(closures, self._next_val(model))

    def _mean_loss(self, model: nn.Module, batch: dict[str, Any], weight: Tensor | float = 1.0) -> Tensor:
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, batch)
        assert isinstance(loss, Tensor)
        return weight * loss

    def _next_val(self, model: nn.Module) -> Callable[[], Tensor] | None:
        if self._val_dataset is None:
            return None
        if self._val_batches is None:
            self._val_batches = self._endless(self._val_dataset)
        return partial(self._mean_loss, model, self._prepare_inputs(next(self._val_batches)))

    def _endless(self, dataset: Any) -> Iterator[Any]:
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=self.args.train_batch_size, shuffle=True, collate_fn=self.data_collator
        )
        while True:
            yield from loader
