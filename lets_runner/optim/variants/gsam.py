"""GSAM: descend along the perturbed gradient, and climb where that costs the perturbed loss nothing.

Zhuang, Gong, Yuan, Cui, Adam, Dvornek, Tatikonda, Duncan, Liu, *Surrogate Gap Minimization Improves Sharpness-Aware
Training*, ICLR 2022 (arXiv 2203.08065):

    g_⊥ = g − (⟨g, g_s⟩/‖g_s‖²) g_s        descend along g_s − α g_⊥
    ρ_t = ρ_min + (ρ_max − ρ_min) (η_t − η_min)/(η_max − η_min)
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.tie import Tie
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import SMALLEST_NORM, Step


class GSAM(SAM):
    """GSAM; see `SAM` for how to use it.

    Args:
        rho: ρ_max, or the radius of every step if nothing ties it to the learning rate.
        alpha: α, how far the step climbs along g_⊥; 0 is SAM. The authors' CIFAR-10 example has 0.4.
        rho_min: ρ at the smallest learning rate; None to leave ρ alone, so that a radius rule may choose it.
        lr_max: the largest learning rate, where ρ is ρ_max; None for the rate that the base starts with.
        lr_min: the smallest, where ρ is `rho_min`.
    """

    graphable = True

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        *,
        alpha: float = 0.2,
        rho_min: float | None = None,
        lr_max: float | None = None,
        lr_min: float = 0.0,
        **settings: Any,
    ):
        super().__init__(base, rho, **settings)
        self.alpha = alpha
        self._tie: Tie | None = None
        if rho_min is not None:
            if rho_min > rho > 0:
                raise ValueError(f"rho_min={rho_min}: must not be above rho={rho}")
            lr = float(base.param_groups[0]["lr"]) if lr_max is None else lr_max
            self._tie = Tie(rho_max=rho, rho_min=rho_min, lr_max=lr, lr_min=lr_min)
            self.own_radius = "its own schedule ties it to the learning rate; rho_min=null switches that off"

    def radius(self, step: Step) -> Tensor:
        return self._rho if self._tie is None else self._tie.rho(self.param_groups[0]["lr"], self.device)

    def combine(self, step: Step) -> Vector:
        if step.perturbed_gradient is None:
            return step.gradient
        along = self._share(step)
        orthogonal = vector.minus(step.gradient, vector.scaled(step.perturbed_gradient, along))
        return vector.minus(step.perturbed_gradient, vector.scaled(orthogonal, self.alpha))

    def combine_tangent(self, step: Step, tangent: Vector) -> Vector:
        assert step.perturbed_gradient is not None
        square = vector.dot(step.perturbed_gradient, step.perturbed_gradient)
        along = self._share(step)
        turn = vector.dot(step.gradient, tangent) - 2 * along * vector.dot(step.perturbed_gradient, tangent)
        turn = torch.where(square > SMALLEST_NORM, turn / square, 0.0)
        straight = vector.scaled(tangent, 1 + self.alpha * along)
        return vector.plus(straight, vector.scaled(step.perturbed_gradient, self.alpha * turn))

    @staticmethod
    def _share(step: Step) -> Tensor:
        """⟨g, g_s⟩/‖g_s‖², 0 where g_s is 0."""
        assert step.perturbed_gradient is not None
        square = vector.dot(step.perturbed_gradient, step.perturbed_gradient)
        share = vector.dot(step.gradient, step.perturbed_gradient) / square
        return torch.where(square > SMALLEST_NORM, share, 0.0)
