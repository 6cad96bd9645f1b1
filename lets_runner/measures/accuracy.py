"""How many examples get their class."""

from collections.abc import Mapping

from torch import Tensor

from lets_runner.columns import Column
from lets_runner.measures.measure import Measure


class Accuracy(Measure):
    """The share of examples whose class has the highest score."""

    columns = (Column("accuracy", "%"),)
    sums = ("correct",)

    def add(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"correct": (outputs.argmax(1) == targets).sum()}

    def scores(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        return {"accuracy": sums["correct"] / count}
