"""VaSSO: perturb along a running average of the gradients, whose direction wavers less from batch to batch.

Li & Giannakis, *Enhancing Sharpness-Aware Optimization Through Variance Suppression*, NeurIPS 2023 (arXiv 2309.15639):

    d_t = (1−θ) d_{t−1} + θ g, starting from the first gradient        ε̂ = d_t / ‖d_t‖
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.memory import Memory
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Step


class VaSSO(SAM):
    """VaSSO; see `SAM` for how to use it.

    Args:
        theta: θ in (0, 1], the weight of the newest gradient; 1 is SAM. The authors' program has 0.9.
    """

    remembers = (*SAM.remembers, "_average")
    local_perturbations = False
    graphable = True

    def __init__(self, base: Optimizer, rho: float = 0.05, *, theta: float = 0.9, **settings: Any):
        if not 0 < theta <= 1:
            raise ValueError(f"theta={theta}: must lie in (0, 1]")
        super().__init__(base, rho, **settings)
        self.theta = theta
        self._average = Memory(self)  # d

    def direction(self, step: Step) -> tuple[Vector, Tensor]:
        average = vector.scaled(self._average.recall(step.params, default=step.gradient), 1 - self.theta)
        torch._foreach_add_(average, step.gradient, alpha=self.theta)
        self._average.keep(step.params, average)
        return average, vector.norm(average)
