"""Radii that follow a plan made beforehand: the progress of the training, or the learning rate."""

import math

from lets_runner.optim.radius import RadiusRule
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Batch, Step
from lets_runner.optim.tie import Tie


class LinearRadius(RadiusRule):
    """From the variant's ρ to `end` along a straight line over `total_steps`.

    Args:
        sam: the variant; its ρ is where the line begins.
        total_steps: steps of the whole training.
        end: the radius at the end, at least 0.
    """

    remembers: tuple[str, ...] = ("start",)
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


class LearningRateRadius(RadiusRule):
    """GSAM's tie of the radius to the learning rate (`tie`), for any variant.

    Args:
        sam: the variant; its ρ is ρ_max.
        rho_min: the radius at the smallest learning rate.
        lr_max, lr_min: between which learning rates ρ moves; `lr_max=None` for the rate that the base starts with.
    """

    graphable = True

    def __init__(self, sam: SAM, *, rho_min: float = 0.0, lr_max: float | None = None, lr_min: float = 0.0):
        super().__init__(sam)
        lr = float(sam.param_groups[0]["lr"]) if lr_max is None else lr_max
        self._tie = Tie(rho_max=sam.rho, rho_min=rho_min, lr_max=lr, lr_min=lr_min)

    def before_perturbation(self, step: Step, val: Batch | None) -> None:
        self.sam.move_radius(self._tie.rho(self.param_groups[0]["lr"], self.device))
