"""The control that every learned radius must beat: ρ grows geometrically to a cap and learns nothing."""

from lets_runner.optim.rules.radius import RadiusRule
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Batch, Step


class Ramp(RadiusRule):
    """ρ_t = ρ₀ (cap/ρ₀)^min(1, t / (share · total_steps)), t counted from 0.

    Args:
        sam: the variant; its ρ is ρ₀ > 0.
        total_steps: steps of the whole training.
        cap: where ρ ends; None for the upper bound that the variant states.
        share: the share of the training, in (0, 1], after which the cap is reached.
    """

    remembers = ("start",)
    planned = True
    graphable = True

    def __init__(self, sam: SAM, *, total_steps: int, cap: float | None = None, share: float = 0.5):
        super().__init__(sam)
        self.start = sam.rho
        self.cap = sam.rho_bounds[1] if cap is None else cap
        if not (self.start > 0 and self.cap > 0):
            raise ValueError(f"rho={self.start}, cap={self.cap}: a geometric ramp starts and ends above 0")
        if not 0 < share <= 1:
            raise ValueError(f"share={share}: must lie in (0, 1]")
        if total_steps < 1:
            raise ValueError(f"total_steps={total_steps}: must be at least 1")
        self.length = share * total_steps

    def before_perturbation(self, step: Step, val: Batch | None) -> None:
        self.sam.move_radius(step.planned(self.rho_at))

    def rho_at(self, number: int) -> float:
        """ρ of the step with this number, counted from 1."""
        progress = min(1.0, (number - 1) / self.length)
        return self.start * (self.cap / self.start) ** progress
