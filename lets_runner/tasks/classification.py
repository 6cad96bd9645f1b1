"""One class for every example: cross entropy and accuracy."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lets_runner.measures import Accuracy, Measure
from lets_runner.tasks.task import Output, Part, Task, split_rows


class Classification(Task):
    """Batches are (inputs, classes as int64 of shape (B,)); the model gives scores of shape (B, classes).

    In training the targets may be shares of the classes, (B, classes), as mixup gives them; what is measured of them
    beside the loss takes the class with the largest share.

    Args:
        label_smoothing: share of the target spread over all classes in the training loss, in [0, 1].
        measures: what is measured beside the cross entropy, in nats; None for the accuracy alone.
        selects: name of the column that chooses.
    """

    target_kind = "classes"
    takes_mixed = True

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        measures: Sequence[Measure] | None = None,
        selects: str = "accuracy",
    ):
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must lie in [0, 1]")
        super().__init__([Accuracy()] if measures is None else measures, selects=selects)
        self.label_smoothing = label_smoothing

    def loss(self, model: nn.Module, batch: tuple[Any, Tensor], *, per_sample: bool = False) -> Output:
        return self._output(model, batch, self.label_smoothing, "none" if per_sample else "mean")

    def measure(self, model: nn.Module, batch: tuple[Any, Tensor]) -> Output:
        return self._output(model, batch, 0.0, "mean")

    def split(self, batch: tuple[Any, Tensor], parts: int) -> list[Part]:
        return split_rows(batch, parts)

    def _output(self, model: nn.Module, batch: tuple[Any, Tensor], smoothing: float, reduction: str) -> Output:
        inputs, labels = batch
        scores = model(inputs)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        mixed = labels.ndim == 2
        targets = labels.to(scores.dtype) if mixed else labels
        loss = functional.cross_entropy(scores, targets, label_smoothing=smoothing, reduction=reduction)
        classes = labels.argmax(1) if mixed else labels
        return Output(loss, len(labels), self.added(scores, classes), self.kept(scores, classes))
