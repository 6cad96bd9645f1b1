"""Radii that follow a plan made beforehand: the progress of the training, or the learning rate."""

import math
from bisect import bisect
from collections.abc import Sequence
from itertools import pairwise

from lets_runner.optim.engine.tie import Tie
from lets_runner.optim.rules.radius import RadiusRule
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Batch, Step


class LinearRadius(RadiusRule):
    """From the variant's ρ to `end` along a straight line over `total_steps`.

    Args:
        sam: the variant; its ρ is where the line begins.
        total_steps: steps of the whole training.
        end: the radius at the end, at least 0.
    """

    remembers: tuple[str, ...] = ("start",)
    planned = True
    graphable = True

    def __init__(self, sam: SAM, *, total_steps: int, end: float = 0.0):
        super().__init__(sam)
        if total_steps < 1:
            raise ValueError(f"total_steps={total_steps}: must be at least 1")
        if not 0 <= end < math.inf:
            raise ValueError(f"end={end}: a radius is a finite number of at least 0")
        self.start, self.end, self.total_steps = sam.rho, end, total_steps

    def before_perturbation(self, step: Step, val: Batch | None) -> None:
        self.sam.move_radius(step.planned(self.rho_at))

    def rho_at(self, number: int) -> float:
        """ρ of the step with this number, counted from 1."""
        share = self.share(min(1.0, (number - 1) / self.total_steps))
        return self.start + (self.end - self.start) * share

    def share(self, progress: float) -> float:
        """How much of the way from start to end is done at `progress`, both in [0, 1]."""
        return progress


class CosineRadius(LinearRadius):
    """From the variant's ρ to `end` along half a cosine over `total_steps`; settings as for `LinearRadius`."""

    graphable = True

    def share(self, progress: float) -> float:
        return (1 - math.cos(math.pi * progress)) / 2


class PiecewiseRadius(RadiusRule):
    """Through given points, along straight lines: any plan, such as a trajectory that was learned before.

    Args:
        sam: the variant; its ρ is ignored, except that 0 switches perturbations off.
        total_steps: steps of the whole training.
        points: pairs of progress, ever larger within 0 and 1, and ρ there. Before the first and after the last it
            stays.
    """

    starts_from_rho = False
    planned = True
    graphable = True

    def __init__(self, sam: SAM, *, total_steps: int, points: Sequence[Sequence[float]]):
        super().__init__(sam)
        if total_steps < 1:
            raise ValueError(f"total_steps={total_steps}: must be at least 1")
        if not points or any(len(point) != 2 for point in points):
            raise ValueError(f"points={points}: must be pairs of progress and radius, as in [[0, 0.01], [1, 0.2]]")
        self.progress, self.radii = zip(*points, strict=True)
        if not all(a < b for a, b in pairwise((-math.inf, *self.progress))) or not self.progress[0] >= 0:
            raise ValueError(f"points={points}: progress must rise from point to point, within 0 and 1")
        if self.progress[-1] > 1 or not all(0 <= rho < math.inf for rho in self.radii):
            raise ValueError(f"points={points}: progress is at most 1, and a radius a finite number of at least 0")
        self.total_steps = total_steps

    def before_perturbation(self, step: Step, val: Batch | None) -> None:
        self.sam.move_radius(step.planned(self.rho_at))

    def rho_at(self, number: int) -> float:
        """ρ of the step with this number, counted from 1."""
        progress = (number - 1) / self.total_steps
        place = bisect(self.progress, progress)
        if place in (0, len(self.progress)):
            return self.radii[max(0, place - 1)]
        (left, right), (low, high) = self.progress[place - 1 : place + 1], self.radii[place - 1 : place + 1]
        return low + (high - low) * (progress - left) / (right - left)


class LearningRateRadius(RadiusRule):
    """GSAM's tie of the radius to the learning rate (`tie`), for any variant.

    Args:
        sam: the variant; its ρ is ρ_max.
        rho_min: the radius at the smallest learning rate.
        lr_max: the largest learning rate, where ρ is ρ_max; None for the rate that the base starts with.
        lr_min: the smallest, where ρ is `rho_min`.
    """

    planned = True
    graphable = True

    def __init__(self, sam: SAM, *, rho_min: float = 0.0, lr_max: float | None = None, lr_min: float = 0.0):
        super().__init__(sam)
        lr = float(sam.param_groups[0]["lr"]) if lr_max is None else lr_max
        self._tie = Tie(rho_max=sam.rho, rho_min=rho_min, lr_max=lr, lr_min=lr_min)

    def before_perturbation(self, step: Step, val: Batch | None) -> None:
        self.sam.move_radius(self._tie.rho(self.param_groups[0]["lr"], self.device))
