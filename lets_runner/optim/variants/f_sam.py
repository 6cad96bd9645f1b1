"""Friendly SAM: perturb along what is particular to this batch, the gradient without its running average.

Li, Zhou, He, Cheng, Huang, *Friendly Sharpness-Aware Minimization*, CVPR 2024 (arXiv 2403.12350):

    m_t = λ m_{t−1} + (1−λ) g, m_0 = 0        d = g − σ m_t        ε̂ = d / ‖d‖

The authors' program (nblt/F-SAM, utils.py) starts from m_1 = g with d = g, and then has d = g − σ m_{t−1}.
"""

from typing import Any, Literal

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
        lambda_: λ in [0, 1), the decay of the running average. The authors' program has ρ = 0.1, σ = 1 and λ = 0.95
            by default, and ρ = 0.2, σ = 1 and λ = 0.6 in its example, ResNet-18 on CIFAR-100.
        follow: "paper" for the equations, "program" for what their program computes.
    """

    remembers = (*SAM.remembers, "_average")
    local_perturbations = False
    graphable = True

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.1,
        *,
        sigma: float = 1.0,
        lambda_: float = 0.95,
        follow: Literal["paper", "program"] = "paper",
        **settings: Any,
    ):
        if not 0 <= lambda_ < 1:
            raise ValueError(f"lambda_={lambda_}: must lie in [0, 1)")
        if follow not in ("paper", "program"):
            raise ValueError(f"follow={follow}: must be paper or program")
        super().__init__(base, rho, **settings)
        self.sigma, self.lambda_, self.follow = sigma, lambda_, follow
        self._average = Memory(self)  # m

    def direction(self, step: Step) -> tuple[Vector, Tensor]:
        before = self._average.recall(step.params)
        start = before if self.follow == "paper" else self._average.recall(step.params, default=step.gradient)
        average = vector.scaled(start, self.lambda_)
        torch._foreach_add_(average, step.gradient, alpha=1 - self.lambda_)
        self._average.keep(step.params, average)
        taken_out = average if self.follow == "paper" else before
        direction = vector.minus(step.gradient, vector.scaled(taken_out, self.sigma))
        return direction, vector.norm(direction)
