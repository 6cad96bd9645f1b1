"""ESAM: perturb a random part of the network, and descend on the examples that the perturbation hurt most.

Du, Yan, Feng, Zhou, Zhen, Goh, Tan, *Efficient Sharpness-Aware Minimization for Improved Training of Neural Networks*,
ICLR 2022 (arXiv 2110.03141):

    ε̂ = (1/β) a ∘ g/‖g‖        a tensor's a is 1 with probability β, else 0; ‖g‖ over all tensors
    descend along the gradient at θ + ρε̂ of the mean loss over the γ|B| examples whose loss rose most
"""

import random
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Step, mean_loss


class ESAM(SAM):
    """ESAM; closures return every example's loss, a vector. See `SAM` for how to use it.

    One forward pass at θ + ρε̂ serves both to find the examples and to differentiate them: its backward pass goes
    through those alone, and batch-norm layers see the whole batch. Where a batch is spread over microbatches or
    processes, each picks its own share of examples.

    Args:
        beta: β in (0, 1], the probability that a tensor is perturbed.
        gamma: γ in (0, 1], the share of examples that the step descends on.
        seed: of the tensors' draw. A step's draw depends on it and on the step's number alone.
    """

    per_sample = True
    graphable = True

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        *,
        beta: float = 0.6,
        gamma: float = 0.5,
        seed: int = 0,
        **settings: Any,
    ):
        for name, value in {"beta": beta, "gamma": gamma}.items():
            if not 0 < value <= 1:
                raise ValueError(f"{name}={value}: must lie in (0, 1]")
        super().__init__(base, rho, **settings)
        self.beta, self.gamma, self.seed = beta, gamma, seed

    def direction(self, step: Step) -> tuple[Vector, Tensor]:
        weights = step.planned(partial(self._draw, len(step.params)))
        return vector.weighted(step.gradient, weights), step.gradient_norm

    def _draw(self, count: int, number: int) -> list[float]:
        """a/β of `count` tensors in the step with this number."""
        draw = random.Random(f"{self.seed} {number}")
        return [1 / self.beta if draw.random() < self.beta else 0.0 for _ in range(count)]

    def perturbed_objective(self, losses: Tensor, before: Tensor) -> Tensor:
        if self.gamma == 1:
            return mean_loss(losses)
        if losses.ndim == 0:
            raise ValueError("ESAM with gamma below 1 needs every example's loss: let the closure return the vector")
        count = max(1, round(self.gamma * len(losses)))
        worst = torch.topk(losses.detach() - before, count).indices
        return losses.gather(0, worst).mean()
