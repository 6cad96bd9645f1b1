"""What a handful of seeds says: mean, standard deviation, and which of several means is the best."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05  # of Welch's test, two-sided


@dataclass(frozen=True)
class Sample:
    """`n` values; `sd` is the standard deviation of the population they come from (n − 1), None of one value."""

    n: int
    mean: float
    sd: float | None

    def text(self, form: str) -> str:
        """Mean and standard deviation, each written in `form`, as in ".2f"."""
        return f"{self.mean:{form}}" + ("" if self.sd is None else f" ± {self.sd:{form}}")


def sample(values: Iterable[float]) -> Sample | None:
    """The values that there are; None without any."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    return Sample(len(known), float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None)


def marks(samples: Sequence[Sample | None], *, sign: int = 1) -> list[str]:
    """For every sample "best" (the highest mean), "close" (Welch's t-test does not tell it from the best), or "".

    Args:
        sign: −1 where the lowest mean is the best.
    """
    best = max((s for s in samples if s), key=lambda s: sign * s.mean, default=None)
    if best is None:
        return ["" for _ in samples]
    return ["" if s is None else "best" if s.mean == best.mean else "close" if _close(s, best) else "" for s in samples]


def _close(one: Sample, best: Sample) -> bool:
    if one.sd is None or best.sd is None:
        return False  # no test can be made
    from scipy.stats import ttest_ind_from_stats

    test = ttest_ind_from_stats(one.mean, one.sd, one.n, best.mean, best.sd, best.n, equal_var=False)
    return bool(test.pvalue >= LEVEL)
