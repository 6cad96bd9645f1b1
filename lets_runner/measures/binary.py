"""How well two classes are told apart where one is rare: F1 and Matthews' correlation coefficient.

Both are made of the four counts of a confusion matrix; class 1 is the positive one.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor

from lets_runner.columns import Column
from lets_runner.measures.measure import Measure


class Confusion(Measure):
    """Counts of a confusion matrix: true positives, predicted positives and positives; a subclass scores them."""

    classes = 2

    def __init__(self) -> None:
        [column] = self.columns
        self.sums = tuple(f"{column.name}_{kind}" for kind in ("true_positives", "predicted", "positives"))

    def add(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        predicted, true = outputs.argmax(1) == 1, targets == 1
        return dict(zip(self.sums, ((predicted & true).sum(), predicted.sum(), true.sum()), strict=True))

    def scores(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        [column] = self.columns
        both, predicted, true = (sums[name] for name in self.sums)
        return {column.name: self.score(both, predicted, true, count)}

    @abstractmethod
    def score(self, both: float, predicted: float, true: float, count: int) -> float:
        """From how many examples are positive and predicted so, predicted so, positive; of `count`."""


class F1(Confusion):
    """2 TP / (2 TP + FP + FN): the harmonic mean of precision and recall; 0 where there are no positives at all."""

    columns = (Column("f1", "%"),)

    def score(self, both: float, predicted: float, true: float, count: int) -> float:
        return 2 * both / (predicted + true) if predicted + true else 0.0


class MCC(Confusion):
    """Matthews' correlation of predicted and true classes, in [−1, 1]; 0 where either are all the same."""

    columns = (Column("mcc"),)

    def score(self, both: float, predicted: float, true: float, count: int) -> float:
        spread = predicted * (count - predicted) * true * (count - true)
        return (both * count - predicted * true) / math.sqrt(spread) if spread else 0.0
