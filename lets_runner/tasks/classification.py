"""One class for every example: cross entropy and accuracy."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lets_runner.tasks.task import Output


class Classification:
    """Batches are (inputs, classes as int64 of shape (B,)); the model gives scores of shape (B, classes).

    Args:
        label_smoothing: share of the target spread over all classes in the training loss, in [0, 1].
    """

    def __init__(self, *, label_smoothing: float = 0.0):
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must lie in [0, 1]")
        self.label_smoothing = label_smoothing

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor], *, per_sample: bool = False) -> Output:
        return self._output(model, batch, self.label_smoothing, "none" if per_sample else "mean")

    def measure(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Output:
        return self._output(model, batch, 0.0, "mean")

    def split(self, batch: tuple[Tensor, Tensor], parts: int) -> list[tuple[Tensor, Tensor]]:
        return list(zip(*(tensor.chunk(parts) for tensor in batch), strict=True))

    def _output(self, model: nn.Module, batch: tuple[Tensor, Tensor], smoothing: float, reduction: str) -> Output:
        inputs, labels = batch
        scores = model(inputs)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        loss = functional.cross_entropy(scores, labels, label_smoothing=smoothing, reduction=reduction)
        return Output(loss, (scores.detach().argmax(1) == labels).sum(), len(labels))
