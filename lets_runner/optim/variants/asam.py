"""Adaptive SAM: a ball that scales with the weights, so that rescaling a network does not change its sharpness.

Kwon, Kim, Park, Choi, *ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural
Networks*, ICML 2021 (arXiv 2102.11600), equation 8:

    ε̂ = T²g / ‖Tg‖        T = |θ| + ξ on weights, 1 on the rest

What counts as a weight is a matter of `scope`. The authors' program (SamsungLabs/ASAM, asam.py) takes every parameter
that has "weight" in its name: the scales of normalisation layers too, and no bias. They say so of it in davda54/sam,
issue 37: ρ = 0.5 was best there, and 2 with T = |θ| on all.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
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
        scope: "weights" scales tensors of two or more dimensions, so no scale of a normalisation layer; "named" those
            whose name in `model` contains "weight", as the authors' program does; "all" has T = |θ| on every tensor
            and no ξ, which is what many programs run under the name of ASAM.
    """

    rho_bounds = (1e-2, 5.0)
    graphable = True

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.5,
        *,
        xi: float = 0.01,
        scope: Literal["weights", "named", "all"] = "weights",
        **settings: Any,
    ):
        if not xi >= 0:
            raise ValueError(f"xi={xi}: must be at least 0")
        if scope not in ("weights", "named", "all"):
            raise ValueError(f"scope={scope}: must be weights, named or all")
        super().__init__(base, rho, **settings)
        self.xi = 0.0 if scope == "all" else xi
        self.scope = scope
        self._named = named_weights(self.model) if scope == "named" else frozenset()

    def scales(self, param: Tensor) -> bool:
        """Whether T is more than 1 on this parameter."""
        return param in self._named if self.scope == "named" else param.ndim >= 2 or self.scope == "all"

    def direction(self, step: Step) -> tuple[Vector, Tensor]:
        adaptive = [index for index, param in enumerate(step.params) if self.scales(param)]
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


def named_weights(model: nn.Module | None) -> frozenset[Tensor]:
    """The parameters that have "weight" in their name; one that has several names counts by its first."""
    if model is None:
        raise ValueError("scope=named goes by the names of parameters: ASAM needs model= for them")
    return frozenset(param for name, param in model.named_parameters() if "weight" in name)
