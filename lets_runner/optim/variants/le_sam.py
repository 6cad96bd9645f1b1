"""LE-SAM: perturb as far as the loss, to first order, rises by a fixed budget.

Wang, Liu, Xie, Gao, *Fix the Loss, Not the Radius: Rethinking the Adversarial Perturbation of Sharpness-Aware
Minimization*, ICML 2026 (arXiv 2605.10183):

    ρ_t = min(σ_t/(‖g‖ + ϱ), ρ_max)        ε = ρ_t ĝ

σ_t is σ, and goes to zero along half a cosine over the last steps of the training.
"""

import math
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from lets_runner.optim.engine.scalar import scalar
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Step


class LESAM(SAM):
    """LE-SAM; see `SAM` for how to use it. Its radius is a rule of its own: no other may choose it.

    Args:
        rho: ρ_max; 0 is the base optimizer.
        sigma: σ > 0, by how much the loss may rise. Like ρ_max it is this project's choice, for digits; the authors'
            program, lesam.py, has σ = 0.35 and ρ_max = 999 in its example, ResNet-18 on CIFAR-100.
        stability: ϱ, added to the gradient norm.
        anneal: the share of the training, at its end, over which σ_t goes to zero; 0 for never. Theirs has 0.2, 40 of
            200 epochs, and σ_t stays the same within an epoch.
        total_steps: steps of the whole training, for `anneal`.
    """

    own_radius = "it follows from the loss budget sigma and the gradient norm"
    graphable = True

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.2,
        *,
        sigma: float = 0.05,
        stability: float = 1e-12,
        anneal: float = 0.0,
        total_steps: int | None = None,
        **settings: Any,
    ):
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma={sigma}: must be a number above 0")
        if not stability >= 0:
            raise ValueError(f"stability={stability}: must be at least 0")
        if not 0 <= anneal <= 1:
            raise ValueError(f"anneal={anneal}: must lie in [0, 1]")
        if anneal > 0 and total_steps is None:
            raise ValueError(f"anneal={anneal} needs total_steps, the number of training steps")
        super().__init__(base, rho, **settings)
        self.rho_max, self.sigma, self.stability = rho, sigma, stability
        self.anneal, self.total_steps = anneal, total_steps

    def budget(self, number: int) -> float:
        """σ_t of the step with this number, counted from 1."""
        if self.anneal == 0:
            return self.sigma
        assert self.total_steps is not None
        start = (1 - self.anneal) * self.total_steps
        progress = min(1.0, max(0.0, (number - 1 - start) / (self.total_steps - start)))
        return self.sigma * (1 + math.cos(math.pi * progress)) / 2

    def radius(self, step: Step) -> Tensor:
        radius = scalar(step.planned(self.budget), self.device) / (step.gradient_norm + self.stability)
        return radius.clamp(max=self.rho_max)
