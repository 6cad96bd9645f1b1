"""What gap matching and loss matching share: the sharpness measured, and how ρ moves towards the one wanted."""

import torch
from torch import Tensor

from lets_runner.optim.engine.scalar import Ema, scalar
from lets_runner.optim.rules.radius import RadiusRule, checked_bounds, checked_start
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Batch, Step

FIRST_STEPS = 5  # L₀ is L̄ after these


class Matching(RadiusRule):
    """Moves log ρ by the clipped log of the sharpness that is `wanted` over the one there is, in every step.

    With n the norm that the variant's direction divides by, L = L(θ; B), L⁺ = L(θ + ρε̂; B), and a bar for a
    bias-corrected moving average, sharpness is max(L̄⁺ − L̄, mean(ρ n)). A subclass says what is `wanted`, and may look
    at more in `observe`.

    Args:
        up: how far log ρ may rise in a step.
        down: how far it may fall.
        ema: decay of the averages per step.
        bounds: of ρ.
    """

    remembers: tuple[str, ...] = ("_loss", "_perturbed_loss", "_slope", "_first_loss", "_updates")

    def __init__(self, sam: SAM, *, up: float, down: float, ema: float, bounds: tuple[float, float]):
        super().__init__(sam)
        for name, value in {"up": up, "down": down}.items():
            if not value >= 0:
                raise ValueError(f"{name}={value}: must be at least 0")
        if not 0 <= ema < 1:
            raise ValueError(f"ema={ema}: must lie in [0, 1)")
        self.up, self.down = up, down
        self.bounds = checked_bounds(bounds, sam.rho_bounds)
        checked_start(sam, self.bounds)
        device = self.device
        self._loss = Ema(ema, device)
        self._perturbed_loss = Ema(ema, device)
        self._slope = Ema(ema, device)  # of ρ n, the first-order sharpness
        self._first_loss = scalar(0.0, device)
        self._updates = scalar(0.0, device)

    def wanted(self) -> Tensor:
        """The sharpness that there should be, 0-dim."""
        raise TypeError(f"{type(self).__name__} does not say what sharpness is wanted")

    def observe(self, step: Step, val: Batch | None) -> None:
        """Look at more than the training batch; the weights are θ_t. Called in steps that perturb."""

    def progress(self) -> Tensor:
        """(L₀ − L̄)₊."""
        return (self._first_loss - self._loss.mean).clamp(min=0)

    def before_update(self, step: Step, val: Batch | None) -> None:
        if step.perturbed:
            self.observe(step, val)
            active = self._teaches(step)
            self._average(step, active)
            self._move(active)

    def _average(self, step: Step, active: Tensor) -> None:
        assert step.perturbed_loss is not None and step.direction_norm is not None
        active = active & torch.isfinite(step.loss + step.perturbed_loss + step.direction_norm)
        self._loss.update(step.loss, active)
        self._perturbed_loss.update(step.perturbed_loss, active)
        self._slope.update(step.rho * step.direction_norm, active)
        self._updates = self._updates + active
        self._first_loss = torch.where(self._updates <= FIRST_STEPS, self._loss.mean, self._first_loss)

    def _move(self, active: Tensor) -> None:
        sharpness = torch.maximum(self._perturbed_loss.mean - self._loss.mean, self._slope.mean)
        delta = torch.log(self.wanted() / sharpness).clamp(-1, 1)
        rho = self.sam.rho_tensor
        moved = rho * torch.where(delta > 0, self.up * delta, self.down * delta).exp()
        self.sam.move_radius(torch.where(active & torch.isfinite(delta), moved.clamp(*self.bounds), rho))
