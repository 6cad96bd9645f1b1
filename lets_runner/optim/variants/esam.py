"""ESAM: perturb a random part of the network, and descend on the examples that the perturbation hurt most.

Du, Yan, Feng, Zhou, Zhen, Goh, Tan, *Efficient Sharpness-Aware Minimization for Improved Training of Neural Networks*,
ICLR 2022 (arXiv 2110.03141):

    ε̂ = (1/β) a ∘ g/‖g‖        a tensor's a is 1 with probability β, else 0; ‖g‖ over all tensors
    descend along the gradient at θ + ρε̂ of the mean loss over the γ|B| examples whose loss rose most

The authors' program (dydjw9/Efficient_SAM, utils/Esam.py) leaves the other tensors out of the first backward pass
already, so that its norm is that of a ∘ g and ‖ρε̂‖ always ρ/β; perturbs all of them in the first step; and descends on
the examples whose loss rose by more than that of the ⌊γ|B|⌋-th, which are ⌊γ|B|⌋ − 1.
"""

import random
from functools import partial
from typing import Any, Literal

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
    through those alone, and batch-norm layers see the whole batch. (The authors' program makes a third forward pass, of
    the picked examples alone.) Where a batch is spread over microbatches or processes, each picks its own share of
    examples.

    Args:
        beta: β in (0, 1], the probability that a tensor is perturbed.
        gamma: γ in (0, 1], the share of examples that the step descends on. Their program's examples have γ = 0.5, and
            β = 0.6 for ResNet-18, 0.5 for wide ResNets (with ρ = 0.1) and PyramidNets (with ρ = 0.2).
        seed: of the tensors' draw. A step's draw depends on it and on the step's number alone.
        follow: "program" for what their program computes, "paper" for the equations.
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
        follow: Literal["paper", "program"] = "program",
        **settings: Any,
    ):
        for name, value in {"beta": beta, "gamma": gamma}.items():
            if not 0 < value <= 1:
                raise ValueError(f"{name}={value}: must lie in (0, 1]")
        if follow not in ("paper", "program"):
            raise ValueError(f"follow={follow}: must be paper or program")
        super().__init__(base, rho, **settings)
        self.beta, self.gamma, self.seed, self.follow = beta, gamma, seed, follow

    def direction(self, step: Step) -> tuple[Vector, Tensor]:
        chosen = vector.weighted(step.gradient, step.planned(partial(self._draw, len(step.params))))  # a/β ∘ g
        if self.follow == "paper":
            return chosen, step.gradient_norm
        # Both are longer than ε̂ = a ∘ g/(β‖a ∘ g‖) needs, so that n is the slope of the loss along it.
        return vector.scaled(chosen, 1 / self.beta), vector.norm(chosen)

    def _draw(self, count: int, number: int) -> list[float]:
        """a/β of `count` tensors in the step with this number."""
        if self.follow == "program" and number == 1:
            return [1 / self.beta] * count
        draw = random.Random(f"{self.seed} {number}")
        return [1 / self.beta if draw.random() < self.beta else 0.0 for _ in range(count)]

    def _count(self, examples: int) -> int:
        """How many of so many examples the step descends on."""
        if self.follow == "paper":
            return max(1, round(self.gamma * examples))
        return examples if self.gamma >= 0.99 else max(1, int(self.gamma * examples) - 1)

    def perturbed_objective(self, losses: Tensor, before: Tensor) -> Tensor:
        if self.gamma == 1:
            return mean_loss(losses)
        if losses.ndim == 0:
            raise ValueError("ESAM with gamma below 1 needs every example's loss: let the closure return the vector")
        worst = torch.topk(losses.detach() - before, self._count(len(losses))).indices
        return losses.gather(0, worst).mean()
