"""What a training loop must know of a task: the loss of a batch, and what is measured of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lets_runner.columns import Column, Columns
from lets_runner.measures import Measure, PooledMeasure


@dataclass(frozen=True)
class Output:
    """Of one batch: the loss, how many examples there were, and sums over them, 0-dim, by name.

    The loss is the mean (0-dim) or, if asked for, every example's (B,); with gradient in training. What it is a mean
    over, tokens say, is what `count` counts. A sum that is not there is 0. `kept` is what each pooled measure keeps of
    the examples, and `texts` are what the model said of examples, by their numbers.
    """

    loss: Tensor
    count: int
    sums: Mapping[str, Tensor]
    kept: Sequence[Tensor] = ()
    texts: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A part of a batch, a microbatch, and its weight: its share of the batch in units of an equal share.

    The mean over the parts of weight · loss is the loss of the whole batch, whatever their sizes.
    """

    batch: Any
    weight: float | Tensor = 1.0

    def weighted(self, loss: Tensor) -> Tensor:
        return loss if isinstance(self.weight, float) and self.weight == 1 else loss * self.weight


class Task(ABC):
    """A loss, and measures of how well it was done. A subclass says how a model's outputs and a batch make them.

    Args:
        measures: what is measured beside the loss.
        selects: name of the column that chooses between epochs and between runs.
        loss: the loss as a column: its unit.

    Raises:
        ValueError: two measures have a column or a sum of the same name; no column is called `selects`.
    """

    # what a data set must have; None: the task finds out
    target_kind: Literal["classes", "numbers", "sentences"] | None = None
    takes_mixed = False  # whether targets may be shares of classes, (B, classes)
    per_example = True  # whether the loss is a mean over examples, each with a loss of its own and of one weight

    def __init__(self, measures: Sequence[Measure], *, selects: str, loss: Column = Columns.loss):
        self.measures = list(measures)
        self.columns = Columns(tuple(column for measure in self.measures for column in measure.columns), selects, loss)
        self.sums = tuple(name for measure in self.measures for name in measure.sums)
        if len({*self.sums}) < len(self.sums):
            raise ValueError(f"measures: {', '.join(self.sums)}: two of them add up something of the same name")
        self.pooled = tuple(measure for measure in self.measures if isinstance(measure, PooledMeasure))
        if any("train" in column.when for measure in self.pooled for column in measure.columns):
            raise ValueError("measures: a pooled one cannot be measured in training; let it say when=('val', 'test')")

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any, *, per_sample: bool = False) -> Output:
        """As trained on, with every regularisation of the task."""

    @abstractmethod
    def measure(self, model: nn.Module, batch: Any) -> Output:
        """As reported, without."""

    def examine(self, model: nn.Module, batch: Any) -> Output:
        """As `measure`, with what is measured of the test set alone."""
        return self.measure(model, batch)

    @abstractmethod
    def split(self, batch: Any, parts: int) -> list[Part]:
        """The batch in so many parts, as equal as can be."""

    def check(self, model: nn.Module) -> None:  # noqa: B027 - most find out by themselves
        """Raise ValueError, in one line, where the task has no use for such a model."""

    def measuring(self, more: Sequence[Measure]) -> Self:
        """The same task, with further measures; those whose columns it has already are left out."""
        known = {column.name for column in self.columns.all}
        other = copy(self)
        new = [measure for measure in more if known.isdisjoint(column.name for column in measure.columns)]
        Task.__init__(other, [*self.measures, *new], selects=self.columns.selects, loss=self.columns.loss)
        return other

    @property
    def signatures(self) -> Mapping[str, str]:
        """How columns were computed, in words that others know, for the summary of a run."""
        return {}

    def scores(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        """The scores of `count` examples, from the sums over them."""
        return {name: score for measure in self.measures for name, score in measure.scores(sums, count).items()}

    def added(self, outputs: Tensor, targets: Tensor, measures: Sequence[Measure] | None = None) -> dict[str, Tensor]:
        """The sums of one batch; of all measures, or of some."""
        outputs, measures = outputs.detach(), self.measures if measures is None else measures
        return {name: total for measure in measures for name, total in measure.add(outputs, targets).items()}

    def kept(self, outputs: Tensor, targets: Tensor) -> list[Tensor]:
        """What the pooled measures keep of one batch."""
        return [measure.keep(outputs.detach(), targets) for measure in self.pooled]

    def pooled_scores(self, kept: Sequence[Tensor]) -> dict[str, float]:
        """Their scores, from what was kept of all examples."""
        return {
            name: score
            for measure, rows in zip(self.pooled, kept, strict=True)
            for name, score in measure.score(rows).items()
        }


def split_rows(batch: Any, parts: int) -> list[Part]:
    """Tensors, however nested, cut along their first dimension; parts differ by a row at most, and have its weight."""
    leaves, spec = pytree.tree_flatten(batch)
    pieces = list(zip(*(leaf.tensor_split(parts) for leaf in leaves), strict=True))
    return [Part(pytree.tree_unflatten(list(piece), spec), len(piece[0]) * parts / len(leaves[0])) for piece in pieces]
