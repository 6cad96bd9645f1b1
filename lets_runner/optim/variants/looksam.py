"""LookSAM: perturb every k-th step only, and reuse what the perturbation added in between.

Liu, Mai, Chen, Hsieh, You, *Towards Efficient and Scalable Sharpness-Aware Minimization*, CVPR 2022
(arXiv 2203.02714). With norms and products over all parameters together,

    every k steps     descend along g_s, and keep g_v = g_s − ⟨g_s, ĝ⟩ĝ
    between           descend along g + α (‖g‖/‖g_v‖) g_v
"""

from typing import Any

import torch
from torch.optim import Optimizer

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.memory import Memory
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import SMALLEST_NORM, Step


class LookSAM(SAM):
    """SAM at about (k+1)/k gradient evaluations a step; see `SAM` for how to use it.

    Args:
        k: a step in this many perturbs, the first one to begin with.
        alpha: α, how much of g_v goes into the steps between. (No program of the authors was found. rollovd/LookSAM has
            k = 10, Leminhbinh0209/LookSAM k = 5, and both α = 0.7 and ρ = 0.1 in their examples.)
    """

    remembers = (*SAM.remembers, "_orthogonal")
    graphable = True

    def __init__(self, base: Optimizer, rho: float = 0.05, *, k: int = 10, alpha: float = 0.7, **settings: Any):
        if not isinstance(k, int) or k < 1:
            raise ValueError(f"k={k}: must be a whole number of at least 1")
        if not alpha >= 0:
            raise ValueError(f"alpha={alpha}: must be at least 0")
        super().__init__(base, rho, **settings)
        self.k, self.alpha = k, alpha
        self._orthogonal = Memory(self)  # g_v

    def branch(self, number: int) -> bool | None:
        return (number - 1) % self.k == 0

    def combine(self, step: Step) -> Vector:
        if step.perturbed_gradient is None:
            return self._reuse(step)
        along = vector.dot(step.perturbed_gradient, step.gradient) / step.gradient_norm.square()
        along = torch.where(step.gradient_norm > SMALLEST_NORM, along, 0.0)
        parallel = vector.scaled(step.gradient, along)
        self._orthogonal.keep(step.params, vector.minus(step.perturbed_gradient, parallel))
        return step.perturbed_gradient

    def _reuse(self, step: Step) -> Vector:
        orthogonal = self._orthogonal.recall(step.params)
        norm = vector.norm(orthogonal)
        scale = torch.where(norm > SMALLEST_NORM, self.alpha * step.gradient_norm / norm, 0.0)
        return vector.plus(step.gradient, vector.scaled(orthogonal, scale))
