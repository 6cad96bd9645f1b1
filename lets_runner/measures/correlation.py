"""How well predicted numbers go along with true ones, whatever their scale: Pearson's and Spearman's correlation."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lets_runner.columns import Column
from lets_runner.measures.measure import Measure, PooledMeasure


class Pearson(Measure):
    """Pearson's r of one number an example; not a number where either are all the same.

    It is made of raw sums in double precision, which loses (mean/spread)² of 1e-16: nothing for scores of 0 to 5.
    """

    columns = (Column("pearson"),)
    sums = ("pearson_x", "pearson_y", "pearson_xx", "pearson_yy", "pearson_xy")

    def add(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        x, y = _numbers(outputs), _numbers(targets)
        return dict(zip(self.sums, (x.sum(), y.sum(), x.dot(x), y.dot(y), x.dot(y)), strict=True))

    def scores(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        x, y, xx, yy, xy = (sums[name] for name in self.sums)
        spread_x, spread_y = count * xx - x * x, count * yy - y * y
        if not (spread_x > 0 and spread_y > 0):
            return {"pearson": math.nan}
        return {"pearson": (count * xy - x * y) / math.sqrt(spread_x) / math.sqrt(spread_y)}


class Spearman(PooledMeasure):
    """Spearman's ρ: Pearson's r of the ranks, equal numbers sharing the mean of theirs. One number an example."""

    columns = (Column("spearman", when=("val", "test")),)

    def keep(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.stack([_numbers(outputs), _numbers(targets)], 1)

    def score(self, kept: Tensor) -> dict[str, float]:
        x, y = (ranks - ranks.mean() for ranks in (_ranks(column) for column in kept.unbind(1)))
        spread = x.norm() * y.norm()
        return {"spearman": float(x.dot(y) / spread) if spread > 0 else math.nan}


def _numbers(tensor: Tensor) -> Tensor:
    return tensor.detach().double().flatten()


def _ranks(values: Tensor) -> Tensor:
    """From 1 to N; equal values have the mean of the ranks that they take up together."""
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2).double()[place]
