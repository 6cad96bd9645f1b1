"""Numbers for every example: mean squared error."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lets_runner.measures import Measure, SquaredError
from lets_runner.tasks.task import Output, Part, Task, split_rows


class Regression(Task):
    """Batches are (inputs, numbers of shape (B, K)); the model gives numbers of shape (B, K).

    The loss is the squared error, a mean over the K numbers and over the examples.

    Args:
        measures: what is measured beside the loss; None for the mean squared error and R².
        selects: name of the column that chooses.
    """

    target_kind = "numbers"

    def __init__(self, *, measures: Sequence[Measure] | None = None, selects: str = "mse"):
        super().__init__([SquaredError()] if measures is None else measures, selects=selects)

    def loss(self, model: nn.Module, batch: tuple[Any, Tensor], *, per_sample: bool = False) -> Output:
        inputs, targets = batch
        outputs = model(inputs)
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        if outputs.shape != targets.shape:
            raise ValueError(f"the model gives {tuple(outputs.shape)} for targets of {tuple(targets.shape)}")
        losses = (outputs - targets).square().flatten(1).mean(1)
        sums, kept = self.added(outputs, targets), self.kept(outputs, targets)
        return Output(losses if per_sample else losses.mean(), len(targets), sums, kept)

    def measure(self, model: nn.Module, batch: tuple[Any, Tensor]) -> Output:
        return self.loss(model, batch)

    def split(self, batch: tuple[Any, Tensor], parts: int) -> list[Part]:
        return split_rows(batch, parts)
