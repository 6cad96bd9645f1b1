"""Friendly SAM: perturb along what is particular to this batch, the gradient without its running average.

Li, Zhou, He, Cheng, Huang, *Friendly Sharpness-Aware Minimization*, CVPR 2024 (arXiv 2403.12350):

    m_t = λ m_{t−1} + (1−λ) g, m_0 = 0        d = g − σ m_t        ε̂ = d / ‖d‖
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


class FSAM(SAM):
    """F-SAM; see `SAM` for how to use it.

    Args:
        sigma: σ, how much of the running average is taken out of the gradient; 0 is SAM.
        lambda_: λ in [0, 1), the decay of the running average. The authors' program has ρ = 0.1, σ = 1 and λ = 0.95.
    """

    remembers = (*SAM.remembers, "_average")
    local_perturbations = False
    graphable = True

    def __init__(
        self, base: Optimizer, rho: float = 0.1, *, sigma: float = 1.0, lambda_: float = 0.95, **settings: Any
    ):
        if not 0 <= lambda_ < 1:
            raise ValueError(f"lambda_={lambda_}: must lie in [0, 1)")
        super().__init__(base, rho, **settings)
        self.sigma, self.lambda_ = sigma, lambda_
        self._average = Memory(self)  # m

    def direction(self, step: Step) -> tuple[Vector, Tensor]:
        average = vector.scaled(self._average.recall(step.params), self.lambda_)
        torch._foreach_add_(average, step.gradient, alpha=1 - self.lambda_)
        self._average.keep(step.params, average)
        direction = vector.minus(step.gradient, vector.scaled(average, self.sigma))
        return direction, vector.norm(direction)
