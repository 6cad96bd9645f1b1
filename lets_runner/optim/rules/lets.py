"""LETS: learn the perturbation radius ρ while training, from the generalization gap that each step leaves behind.

Wang, Jiang, Fu, Zhang, *Enhancing Sharpness-Aware Minimization by Learning Perturbation Radius*, 2024
(arXiv 2408.08222). The lower level is a step of any SAM variant; the upper level looks at where it led:

    Δ     = L(θ_{t+1}; V) − L(θ_{t+1}; B')                         V a validation, B' a training batch
    F(ρ)  = ½ Δ²
    dF/dρ = Δ ⟨∇L(θ_{t+1}; V) − ∇L(θ_{t+1}; B'), v⟩
    v     = dθ_{t+1}/dρ = −J · d combine/dρ,    d g_s/dρ = H(θ_t + ρε̂) ε̂

J is the base optimizer's ∂(update)/∂(gradient), see `sensitivity`; H ε̂ is taken in one of the ways of `curvature`.
What is learned is ν = log ρ, so everything here is with respect to ν: u = ρ v, dF/dν = ρ dF/dρ.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from lets_runner.optim.engine import sensitivity, vector
from lets_runner.optim.engine.memory import Memory
from lets_runner.optim.engine.scalar import Ema, ScalarAdam, ScalarNormalised, ScalarSGD, scalar
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.rules.curvature import CURVATURES
from lets_runner.optim.rules.radius import RadiusRule, checked_bounds, checked_every, checked_start
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Batch, Step

RHO_OPTIMIZERS: dict[str, Callable[[float, torch.device, float], Any]] = {
    "adam": lambda lr, device, eps: ScalarAdam(lr, device, eps=eps),
    "sgd": lambda lr, device, _: ScalarSGD(lr, device),
    "normalised": lambda lr, device, _: ScalarNormalised(lr, device),
}


class LETS(RadiusRule):
    """Learns ρ of any SAM variant; every option off its default is documented with what it costs.

        optimizer = LETS(SAM(base, rho=0.05, model=model))
        loss = optimizer.step(lambda: loss_of(train_batch), lambda: loss_of(val_batch))

    Args:
        sam: the variant; its ρ is where learning starts.
        curvature: "secant", "diag" (the paper's; 100 to 1,000 times too small) or "exact" (a double backward).
        upper_batch: B' is the "next" training batch, whose loss and gradient SAM computes anyway (3 gradient
            evaluations a step), or the "same" one again (4; the step has just lowered that very loss).
        every: learn from every `every`-th of the steps that perturb; the others cost what SAM costs.
        objective: "gap" for F = ½Δ², "val" for F = L(θ_{t+1}; V) alone, which needs no B' and reports no gap.
        gap_ema: decay of the average that replaces Δ in dF/dν; 0 for the raw Δ. E[Δ²] of a minibatch is the squared gap
            plus a variance, and the variance pushes ρ up for ever.
        bounds: of ρ; None for what the variant states, (0, inf) for none.
        rho_optimizer: on ν: "adam", "sgd", or "normalised", which measures dF/dν in units of its recent size.
        rho_lr: its learning rate; "auto" is 20 · `every` / `total_steps`, at most 0.03: 20 / (number of ρ updates)
            over a variant that perturbs in every step, and less over one that does not.
        rho_eps: Adam's ε. A large one lets ρ rest when the signal is gone.
        lr_invariant: divide dF/dν by the largest learning rate of the groups, so that a learning-rate schedule does not
            fade ρ's learning. `last.hypergradient` stays dF/dρ itself.
        total_steps: steps of the whole training, for `rho_lr="auto"`.

    Raises:
        ValueError: an option out of its range, a start outside the bounds; in `step`, no validation closure.
    """

    remembers = ("_nu", "_gap", "_rho_optimizer", "_pending", "_pending_response")
    graphable = True

    def __init__(
        self,
        sam: SAM,
        *,
        curvature: Literal["diag", "secant", "exact"] = "secant",
        upper_batch: Literal["same", "next"] = "next",
        every: int = 1,
        objective: Literal["gap", "val"] = "gap",
        gap_ema: float = 0.99,
        bounds: tuple[float, float] | None = None,
        rho_optimizer: Literal["adam", "sgd", "normalised"] = "adam",
        rho_lr: float | Literal["auto"] = 0.03,
        rho_eps: float = 1e-3,
        lr_invariant: bool = True,
        total_steps: int | None = None,
    ):
        super().__init__(sam)
        _check_choice("curvature", curvature, *CURVATURES)
        _check_choice("upper_batch", upper_batch, "same", "next")
        _check_choice("objective", objective, "gap", "val")
        _check_choice("rho_optimizer", rho_optimizer, *RHO_OPTIMIZERS)
        if curvature == "exact" and not sam.whole_weights:
            raise ValueError("curvature=exact: FSDP2 does not differentiate twice; take secant, or ddp")
        if not 0 <= gap_ema < 1:
            raise ValueError(f"gap_ema={gap_ema}: must lie in [0, 1)")
        if not rho_eps > 0:
            raise ValueError(f"rho_eps={rho_eps}: must be above 0")
        self.every = checked_every(every)
        self.bounds = checked_bounds(bounds, sam.rho_bounds)
        self.rho_lr = _checked_lr(rho_lr, self.every, total_steps)
        self.upper_batch, self.objective, self.lr_invariant = upper_batch, objective, lr_invariant
        sensitivity.warn_if_unknown(sam.base)

        device = self.device
        self._curvature = CURVATURES[curvature]()
        self._nu = scalar(_log(checked_start(sam, self.bounds)), device)
        self._gap = Ema(gap_ema, device)
        self._rho_optimizer = RHO_OPTIMIZERS[rho_optimizer](self.rho_lr, device, rho_eps)
        # What the next training batch completes: L(θ_{t+1}; V), ⟨∇L(θ_{t+1}; V), u⟩ and its scale; and u.
        self._pending: dict[str, Any] | None = None
        self._pending_response = Memory(sam, lasting=False)
        self._response: Vector | None = None

    @property
    def rho(self) -> float:
        return self.sam.rho

    @rho.setter
    def rho(self, value: float) -> None:
        if not value > 0:
            raise ValueError(f"rho={value}: log rho is what LETS learns, so it must be above 0")
        self.sam.rho = value
        self._nu = scalar(_log(value), self.device)

    @property
    def needs_validation(self) -> bool:
        return self.sam.uses_radius

    def branch(self, number: int) -> bool:
        return self.sam.perturbed_steps % self.every == 0  # whether it learns, should the step perturb

    # The moments of a step.

    def before_perturbation(self, step: Step, val: Batch | None) -> None:
        self._response = None
        self._curvature.forget()
        if self._pending is not None:
            upper, self._pending = self._pending, None
            u = self._pending_response.take(step.params)
            self._complete(step, upper, step.loss, vector.dot(u, step.gradient))

    def while_perturbed(self, step: Step) -> None:
        if self._is_due():
            self._curvature.look(self.sam, step)

    def before_update(self, step: Step, val: Batch | None) -> None:
        if step.perturbed and self._is_due():
            self._response = self.sam.response(step, self.sam.gather(self._curvature.product(step.params)))

    def after_update(self, step: Step, val: Batch | None) -> None:
        if self._response is None:
            return
        u, self._response = self._response, None
        upper: dict[str, Any] = {"scale": self._scale()}
        upper["val_loss"], upper["val_slope"] = self._upper_pass("validation", self._validation(val), step, u)
        upper["active"] = self._teaches(step)
        if self.objective == "val":
            self._learn(step, upper, upper["val_slope"], upper["val_slope"])
        elif self.upper_batch == "same":
            self._complete(step, upper, *self._upper_pass("second training", step.closures, step, u))
        else:
            self._pending = upper
            self._pending_response.keep(step.params, u)

    # The upper level.

    def _upper_pass(self, name: str, batch: Batch, step: Step, u: Vector) -> tuple[Tensor, Tensor]:
        """The loss at θ_{t+1} and its slope along u."""
        loss, gradient = self.sam.differentiate_frozen(batch, step.params)
        slope = vector.dot(gradient, u)
        self.sam.forget_gradients()
        self.sam.check(name, step, loss, slope)
        return loss, slope

    def _complete(self, step: Step, upper: dict[str, Any], train_loss: Tensor, train_slope: Tensor) -> None:
        """Both losses at θ_{t+1} are known: Δ and dF/dν."""
        step.gap = upper["val_loss"] - train_loss
        slope = upper["val_slope"] - train_slope
        self._gap.update(step.gap, upper["active"] & torch.isfinite(step.gap))
        self._learn(step, upper, step.gap * slope, self._gap.mean * slope)

    def _learn(self, step: Step, upper: dict[str, Any], raw: Tensor, smooth: Tensor) -> None:
        """Report dF/dρ from the raw dF/dν, and move ν along the smooth one."""
        step.val_loss = upper["val_loss"]
        step.hypergradient = raw / self.sam.rho_tensor
        gradient = smooth * upper["scale"]
        low, high = self.bounds
        nu = self._rho_optimizer.step(self._nu, gradient, upper["active"] & torch.isfinite(gradient))
        self._nu = nu.clamp(_log(low), _log(high))
        self.sam.move_radius(self._nu.exp().clamp(low, high))

    def _is_due(self) -> bool:
        return (self.sam.perturbed_steps - 1) % self.every == 0

    def _scale(self) -> Tensor | float:
        """1/η with `lr_invariant`, else 1; 0 where η is 0: then nothing moves and there is nothing to learn."""
        if not self.lr_invariant:
            return 1.0
        rates = [group["lr"] for group in self.param_groups]
        if not any(isinstance(rate, Tensor) for rate in rates):
            return 1.0 / max(rates) if max(rates) > 0 else 0.0
        largest = torch.stack([torch.as_tensor(rate, dtype=self._nu.dtype, device=self.device) for rate in rates]).max()
        return torch.where(largest > 0, 1.0 / largest, 0.0)


def _log(rho: float) -> float:
    return math.log(rho) if rho > 0 else -math.inf


def _check_choice(name: str, value: object, *choices: str) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value}: must be one of {', '.join(choices)}")


def _checked_lr(rho_lr: object, every: int, total_steps: int | None) -> float:
    if rho_lr == "auto":
        if total_steps is None:
            raise ValueError("rho_lr='auto' needs total_steps, the number of training steps")
        return min(0.03, 20 / max(1, total_steps // every))
    if not isinstance(rho_lr, int | float) or not 0 <= rho_lr < math.inf:
        raise ValueError(f"rho_lr={rho_lr}: must be a number of at least 0, or 'auto'")
    return float(rho_lr)
