"""FisherSAM: a ball in the metric of the diagonal Fisher information instead of the Euclidean one.

Kim, Li, Hu, Hospedales, *Fisher SAM: Information Geometry and Sharpness Aware Minimisation*, ICML 2022
(arXiv 2206.04920). With f = g² elementwise,

    ε̂ = f̃⁻¹g / √(gᵀ f̃⁻¹ g)        f̃⁻¹ = 1/(1 + ηf)
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Step


class FisherSAM(SAM):
    """FisherSAM; see `SAM` for how to use it.

    Args:
        eta: η ≥ 0, how much of the Fisher information goes into the metric; 0 is SAM. (ρ = 0.1 and η = 1 are this
            project's choice; the paper's values were not available.)
    """

    graphable = True

    def __init__(self, base: Optimizer, rho: float = 0.1, *, eta: float = 1.0, **settings: Any):
        if not eta >= 0:
            raise ValueError(f"eta={eta}: must be at least 0")
        super().__init__(base, rho, **settings)
        self.eta = eta

    def direction(self, step: Step) -> tuple[Vector, Tensor]:
        metric = vector.scaled(vector.times(step.gradient, step.gradient), self.eta)
        torch._foreach_add_(metric, 1.0)
        direction = torch._foreach_div(step.gradient, metric)
        return direction, vector.dot(step.gradient, direction).sqrt()
