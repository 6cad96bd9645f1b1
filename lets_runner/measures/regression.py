"""How far predicted numbers are from the true ones."""

from collections.abc import Mapping

from torch import Tensor

from lets_runner.columns import Column
from lets_runner.measures.measure import Measure


class SquaredError(Measure):
    """The mean squared error, and R² = 1 − Σ(y − ŷ)² / Σ(y − ȳ)², both over all numbers of all examples.

    ȳ is the mean of the very targets that are measured. R² is not a number where they are all the same.
    """

    columns = (Column("mse", better="lower"), Column("r2"))
    sums = ("squared_error", "target", "squared_target", "numbers")

    def add(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        outputs, targets = outputs.double(), targets.double()
        return {
            "squared_error": (outputs - targets).square().sum(),
            "target": targets.sum(),
            "squared_target": targets.square().sum(),
            "numbers": targets.new_full((), targets.numel()),
        }

    def scores(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        spread = sums["squared_target"] - sums["target"] ** 2 / sums["numbers"]
        r2 = 1 - sums["squared_error"] / spread if spread > 0 else float("nan")
        return {"mse": sums["squared_error"] / sums["numbers"], "r2": r2}
