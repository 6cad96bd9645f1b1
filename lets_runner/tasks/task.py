"""What a training loop must know of a task: the loss of a batch, and how well it was done."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Output:
    """Of one batch: the loss, how many examples were right (0-dim), and how many there were.

    The loss is the mean (0-dim) or, if asked for, every example's (B,); with gradient in training.
    """

    loss: Tensor
    correct: Tensor
    count: int


class Task(Protocol):
    def loss(self, model: nn.Module, batch: Any, *, per_sample: bool = False) -> Output:
        """As trained on, with every regularisation of the task."""

    def measure(self, model: nn.Module, batch: Any) -> Output:
        """As reported, without."""

    def split(self, batch: Any, parts: int) -> list[Any]:
        """The batch in so many parts of equal size."""
