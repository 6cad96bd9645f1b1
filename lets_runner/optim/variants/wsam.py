"""WSAM: weigh sharpness against the loss itself, inside the base optimizer's step or beside it.

Yue, Jiang, Ye, Gao, Liu, Zhang, *Sharpness-Aware Minimization Revisited: Weighted Sharpness as a Regularization Term*,
KDD 2023 (arXiv 2305.15817), with α = γ/(1−γ):

    decoupled     θ ← Opt(θ, g), then θ ← θ − η α (g_s − g)
    coupled       θ ← Opt(θ, α g_s + (1−α) g)
"""

from typing import Any

from torch.optim import Optimizer

from lets_runner.optim.engine import sensitivity, vector
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Step


class WSAM(SAM):
    """WSAM; see `SAM` for how to use it.

    Args:
        gamma: γ in [0, 1), the weight of sharpness: 0 is the base optimizer, 0.5 SAM (coupled), more than SAM above.
            The authors' program has 0.9, decoupled, and ρ = 0.05.
        decoupled: keep the sharpness out of the base optimizer's momentum and preconditioning.
    """

    graphable = True

    def __init__(
        self, base: Optimizer, rho: float = 0.05, *, gamma: float = 0.9, decoupled: bool = True, **settings: Any
    ):
        if not 0 <= gamma < 1:
            raise ValueError(f"gamma={gamma}: must lie in [0, 1)")
        super().__init__(base, rho, **settings)
        self.alpha = gamma / (1 - gamma)
        self.decoupled = decoupled

    def combine(self, step: Step) -> Vector:
        if self.decoupled or step.perturbed_gradient is None:
            return step.gradient
        return vector.plus(step.gradient, self._sharpness(step))

    def combine_tangent(self, step: Step, tangent: Vector) -> Vector:
        return vector.scaled(tangent, self.alpha)

    def finish(self, step: Step) -> None:
        if self.decoupled and step.perturbed_gradient is not None:
            move = sensitivity.by_learning_rate(self.inner, step.params, self._sharpness(step))
            vector.add_(step.params, self.unless_bad(move))

    def response(self, step: Step, tangent: Vector) -> Vector:
        if self.decoupled:
            return sensitivity.by_learning_rate(self.inner, step.params, self.combine_tangent(step, tangent))
        return super().response(step, tangent)

    def _sharpness(self, step: Step) -> Vector:
        """α (g_s − g)."""
        assert step.perturbed_gradient is not None
        return vector.scaled(vector.minus(step.perturbed_gradient, step.gradient), self.alpha)
