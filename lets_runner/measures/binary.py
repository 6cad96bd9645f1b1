"""How well two classes are told apart where one is rare: F1 and Matthews' correlation coefficient.

Both are made of the four counts of a confusion matrix; class 1 is the positive one.
"""

import math
from collections.abc import Mapping

from torch import Tensor

from lets_runner.columns import Column
from lets_runner.measures.measure import Measure


class F1(Measure):
    """2 TP / (2 TP + FP + FN): the harmonic mean of precision and recall; 0 where there are no positives at all."""

    columns = (Column("f1", "%"),)
    sums = ("f1_true_positives", "f1_predicted", "f1_positives")
    classes = 2

    def add(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        predicted, true = outputs.argmax(1) == 1, targets == 1
        return dict(zip(self.sums, ((predicted & true).sum(), predicted.sum(), true.sum()), strict=True))

    def scores(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        both, predicted, true = (sums[name] for name in self.sums)
        return {"f1": 2 * both / (predicted + true) if predicted + true else 0.0}


class MCC(Measure):
    """Matthews' correlation of predicted and true classes, in [−1, 1]; 0 where either are all the same."""

    columns = (Column("mcc"),)
    sums = ("mcc_true_positives", "mcc_predicted", "mcc_positives")
    classes = 2

    def add(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        predicted, true = outputs.argmax(1) == 1, targets == 1
        return dict(zip(self.sums, ((predicted & true).sum(), predicted.sum(), true.sum()), strict=True))

    def scores(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        both, predicted, true = (sums[name] for name in self.sums)
        spread = predicted * (count - predicted) * true * (count - true)
        return {"mcc": (both * count - predicted * true) / math.sqrt(spread) if spread else 0.0}
