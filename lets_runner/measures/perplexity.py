"""How many tokens a model hesitates between."""

import math
from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from lets_runner.columns import Column
from lets_runner.measures.measure import Measure


class Perplexity(Measure):
    """exp of the mean cross entropy, without label smoothing; targets of −100 do not count."""

    columns = (Column("perplexity", better="lower", when=("val", "test")),)
    sums = ("nats",)

    def add(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"nats": functional.cross_entropy(outputs, targets, reduction="sum")}

    def scores(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        mean = sums["nats"] / count
        return {"perplexity": math.exp(mean) if mean < 700 else math.inf}
