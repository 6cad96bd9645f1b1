"""Horizon LETS: learn how much of what was learned a perturbation may cost, from where perturbations have led.

This project's own rule: LETS (`lets`) with another upper level, the validation loss itself over a horizon of steps.
With n the norm that the variant's direction divides by, L = L(θ; B), a bar for a bias-corrected moving average, L₀ what
L̄ was over the first steps, and T the steps of the whole training, a step perturbs with

    ρ = max(c min(L̄, L₀ − L̄), floor L̄) / n̄

so that to first order the loss rises inside the ball by a share c of the progress made so far, or of the loss itself
where that is less. There is no start to choose: this is ρ from the first step on, whatever the variant's own may be.
What is learned is ν = log c. With u = −J (g_s − g), how a step's own perturbation moved the weights (`sensitivity`),

    Z ← (1 − 1/(horizon T)) Z + u                   where the perturbations of the horizon moved the weights
    h = cos(∇L(θ_{t+1}; V), Z)                      below 0 where that lowered the validation loss
    r² ← .95 r² + .05 min(h², 9 r²)                 ν ← ν − min(speed/T, .1) clip(h/r, ±3), with the r of before

Z is dθ/dν, truncated: forward-mode differentiation has Z_{t+1} = (I − JH) Z_t + u, and the decay stands in for JH. As h
is a cosine, measured in units of its recent size, the scale of losses, gradients and learning rates has no influence.
"""

import math

import torch

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.memory import Memory
from lets_runner.optim.engine.scalar import Ema, ScalarNormalised, scalar
from lets_runner.optim.rules.curvature import Secant
from lets_runner.optim.rules.radius import RadiusRule, checked_bounds, checked_every
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import SMALLEST_NORM, Batch, Step

FIRST_STEPS = 5  # L₀ is L̄ after these
DECAY = 0.95  # of the averages L̄ and n̄


class HorizonLETS(RadiusRule):
    """Sets ρ of any SAM variant; three gradient evaluations a step, or (2k + 1)/k with `every=k`.

        optimizer = HorizonLETS(SAM(base, model=model), total_steps=epochs * len(train_loader))
        loss = optimizer.step(lambda: loss_of(train_batch), lambda: loss_of(val_batch))

    Losses must not be negative. `budget` is c as it stands; `last.hypergradient` the slope of the validation loss along
    Z, per ρ. It keeps a vector as large as the network.

    Args:
        sam: the variant. Its ρ is ignored, except that 0 switches perturbations off.
        total_steps: T, steps of the whole training.
        horizon: share of the training after which a displacement counts 1/e.
        budget: c at the beginning.
        bounds: of c.
        speed: how far ν may go over the whole training, in units of r.
        floor: share of the loss that a perturbation costs at least, to first order.
        every: look at a validation batch in every `every`-th of the steps that perturb.

    Raises:
        ValueError: a setting out of its range; in `step`, no validation closure.
    """

    remembers = ("_nu", "_loss", "_norm", "_first_loss", "_updates", "_budget_optimizer", "_displacement")
    starts_from_rho = False
    graphable = True

    def __init__(
        self,
        sam: SAM,
        *,
        total_steps: int,
        horizon: float = 0.05,
        budget: float = 0.2,
        bounds: tuple[float, float] = (0.05, 1.0),
        speed: float = 40.0,
        floor: float = 0.002,
        every: int = 1,
    ):
        super().__init__(sam)
        if total_steps < 1:
            raise ValueError(f"total_steps={total_steps}: must be at least 1")
        for name, value in {"horizon": horizon, "speed": speed, "floor": floor}.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name}={value}: must be a number above 0")
        self.low, self.high = checked_bounds(bounds, bounds)
        if not 0 < self.low <= budget <= self.high:
            raise ValueError(f"budget={budget}: must lie within bounds=({self.low}, {self.high}), above 0")
        self.every, self.floor = checked_every(every), floor
        self.decay = 1 - 1 / max(5.0, horizon * total_steps)

        device = self.device
        self._nu = scalar(math.log(budget), device)
        self._loss, self._norm = Ema(DECAY, device), Ema(DECAY, device)
        self._first_loss, self._updates = scalar(0.0, device), scalar(0.0, device)
        self._budget_optimizer = ScalarNormalised(min(speed / total_steps, 0.1) * self.every, device)
        self._displacement = Memory(sam)  # Z
        self._secant = Secant()

    @property
    def budget(self) -> float:
        """c as a number. Reading it waits for the device."""
        return math.exp(float(self._nu))

    @property
    def needs_validation(self) -> bool:
        return self.sam.uses_radius

    def branch(self, number: int) -> bool:
        return self.sam.perturbed_steps % self.every == 0  # whether it looks, should the step perturb

    # The moments of a step.

    def before_perturbation(self, step: Step, val: Batch | None) -> None:
        self._secant.forget()

    def before_epsilon(self, step: Step) -> None:
        assert step.direction_norm is not None
        active = self._teaches(step) & torch.isfinite(step.loss + step.direction_norm)
        self._loss.update(step.loss, active)
        self._norm.update(step.direction_norm, active)
        self._updates = self._updates + active
        self._first_loss = torch.where(self._updates <= FIRST_STEPS, self._loss.mean, self._first_loss)
        loss, progress = self._loss.mean, self._first_loss - self._loss.mean
        rise = torch.maximum(self._nu.exp() * torch.minimum(loss, progress), self.floor * loss)
        rho = (rise / self._norm.mean.clamp(min=SMALLEST_NORM)).clamp(min=self.sam.smallest_rho)
        self.sam.move_radius(torch.where(torch.isfinite(rho), rho, 0.0))

    def while_perturbed(self, step: Step) -> None:
        self._secant.look(self.sam, step)

    def before_update(self, step: Step, val: Batch | None) -> None:
        if step.perturbed:
            change = self.sam.response(step, self.sam.gather(self._secant.product(step.params)))
            displacement = vector.scaled(self._displacement.recall(step.params), self.decay)
            vector.add_(displacement, change)
            self._displacement.keep(step.params, displacement)

    def after_update(self, step: Step, val: Batch | None) -> None:
        if not step.perturbed or (self.sam.perturbed_steps - 1) % self.every:
            return
        displacement = self._displacement.recall(step.params)
        step.val_loss, gradient = self.sam.differentiate_frozen(self._validation(val), step.params)
        slope = vector.dot(gradient, displacement)
        step.hypergradient = slope / self.sam.rho_tensor
        length = vector.norm(gradient) * vector.norm(displacement)
        self.sam.forget_gradients()
        self.sam.check("validation", step, step.val_loss, slope)
        cosine = (slope / length.clamp(min=SMALLEST_NORM)).to(self._nu.dtype)
        nu = self._budget_optimizer.step(self._nu, cosine, self._teaches(step) & torch.isfinite(cosine))
        self._nu = nu.clamp(math.log(self.low), math.log(self.high))
