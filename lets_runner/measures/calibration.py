"""How far the probabilities of a classifier can be trusted: negative log-likelihood, Brier score, calibration error.

Outputs are scores before the softmax, (B, classes). Each adds up over examples, however they are cut into batches.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from lets_runner.columns import Column
from lets_runner.measures.measure import Measure


class NLL(Measure):
    """−log of the probability of the true class, in nats: the cross entropy without label smoothing."""

    columns = (Column("nll", "nats", "lower"),)
    sums = ("nll",)

    def add(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"nll": functional.cross_entropy(outputs, targets, reduction="sum")}

    def scores(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        return {"nll": sums["nll"] / count}


class Brier(Measure):
    """Σ (p − y)² over all classes, y one for the true class and zero for the others: between 0 and 2 (Brier 1950)."""

    columns = (Column("brier", better="lower"),)
    sums = ("brier",)

    def add(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        wrong = outputs.softmax(1) - functional.one_hot(targets, outputs.shape[1])
        return {"brier": wrong.square().sum()}

    def scores(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        return {"brier": sums["brier"] / count}


class ECE(Measure):
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599): the mean gap of confidence and accuracy.

    Examples are put into bins of equal width by the probability p of the class that is predicted; a bin's gap,
    |mean p − accuracy|, weighs as many examples as are in it. So only Σ (p − right) of every bin is needed.

    Args:
        bins: how many; bin k holds p in ((k − 1)/bins, k/bins].
    """

    columns = (Column("ece", "%", "lower"),)

    def __init__(self, *, bins: int = 15):
        if bins < 1:
            raise ValueError(f"bins={bins}: must be at least 1")
        self.bins = bins
        self.sums = tuple(f"ece_{number}" for number in range(bins))

    def add(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        confidence, predicted = outputs.softmax(1).max(1)
        bins = (confidence * self.bins).ceil().long().clamp(1, self.bins) - 1
        excess = (confidence - (predicted == targets).to(confidence)).double()
        gaps = torch.zeros(self.bins, dtype=torch.float64, device=outputs.device).index_add_(0, bins, excess)
        return dict(zip(self.sums, gaps.unbind(), strict=True))

    def scores(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        return {"ece": sum(abs(sums[name]) for name in self.sums) / count}
