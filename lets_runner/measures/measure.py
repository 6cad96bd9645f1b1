"""What a measure is: numbers of a batch that add up, and what their sums come to."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor

from lets_runner.columns import Column


class Measure(ABC):
    """A score of predictions, or several, made of sums over examples.

    Because sums add up, a score of a whole data set is the same however it is cut into batches, microbatches and
    processes. A task takes any number of measures (`+task.measures=[{_target_: my.Measure}]`).
    """

    columns: tuple[Column, ...]  # what it comes to
    sums: tuple[str, ...]  # what it adds up
    classes: int | None = None  # how many classes it is made for, where that matters

    @abstractmethod
    def add(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """The sums of one batch, 0-dim, on its device: outputs of the model (B, ...) and targets as the task has them.

        It must not wait for the device.
        """

    @abstractmethod
    def scores(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        """The columns, from the sums over `count` examples."""


class PooledMeasure(Measure):
    """A score of all examples at once, which no sums give: of ranks, say.

    What it needs of every example is kept until the last one is measured. A whole epoch of training would have to be
    kept in every checkpoint: its columns are of validation and test examples alone.
    """

    sums = ()

    def add(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        return {}

    def scores(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        return {}

    @abstractmethod
    def keep(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What is needed of each example of one batch: (B, ...), on its device."""

    @abstractmethod
    def score(self, kept: Tensor) -> dict[str, float]:
        """The columns, from what was kept of all examples, on the host."""
