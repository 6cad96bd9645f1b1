"""Adaptive SAM: a ball that scales with the weights, so that rescaling a network does not change its sharpness.

Kwon, Kim, Park, Choi, *ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural
Networks*, ICML 2021 (arXiv 2102.11600), equation 8:

    ε̂ = T²g / ‖Tg‖        T = |θ| + ξ on weights, 1 on vectors such as biases and normalisation scales
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Step


class ASAM(SAM):
    """ASAM with elementwise normalisation; see `SAM` for how to use it.

    Args:
        rho: relative to the size of the weights, so about ten times SAM's.
        xi: ξ ≥ 0, added to |θ| so that weights near zero can move.
        scope: "weights" for the paper's T, which leaves vectors alone; "all" for T = |θ| on every tensor and no ξ,
            which is what many programs run under the name of ASAM.
    """

    rho_bounds = (1e-2, 5.0)
    graphable = True

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.5,
        *,
        xi: float = 0.01,
        scope: Literal["weights", "all"] = "weights",
        **settings: Any,
    ):
        if not xi >= 0:
            raise ValueError(f"xi={xi}: must be at least 0")
        if scope not in ("weights", "all"):
            raise ValueError(f"scope={scope}: must be weights or all")
        super().__init__(base, rho, **settings)
        self.xi = xi if scope == "weights" else 0.0
        self.smallest_ndim = 2 if scope == "weights" else 0

    def direction(self, step: Step) -> tuple[Vector, Tensor]:
        adaptive = [index for index, param in enumerate(step.params) if param.ndim >= self.smallest_ndim]
        scaled = list(step.gradient)  # Tg
        direction = list(step.gradient)  # T²g
        if adaptive:
            size = torch._foreach_abs([step.params[i] for i in adaptive])
            torch._foreach_add_(size, self.xi)
            once = vector.times(size, [step.gradient[i] for i in adaptive])
            twice = vector.times(size, once)
            for index, tg, ttg in zip(adaptive, once, twice, strict=True):
                scaled[index], direction[index] = tg, ttg
        return direction, vector.norm(scaled)
