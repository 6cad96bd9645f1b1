"""SAM-ON: perturb the normalization layers, and nothing else.

Müller, Vlaar, Rolnick, Hein, *Normalization Layers Are All That Sharpness-Aware Minimization Needs*, NeurIPS 2023
(arXiv 2306.04226). With g and T restricted to the scales and shifts of normalization layers,

    ε̂ = g / ‖g‖        or        ε̂ = T²g / ‖Tg‖, T = |θ| + ξ

The norm is that of the perturbed parameters alone, as in the authors' program (mueller-mp/SAM-ON, sam_on.py; issue 1
there says why). That finds them by "norm" or "bn" in their names, and here it is the class of a layer that tells.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Step


class SAMON(SAM):
    """SAM-ON; see `SAM` for how to use it. A group's own `rho` still counts.

    Args:
        model: has layers whose class says that they normalize ("Norm" in its name), with parameters of their own.
        rho: 0.5 by default in the authors' program, where ASAM-ON with wide ResNets has 10.
        adaptive: ASAM-ON, T on scales and shifts; their program's `elementwise` with `normalize_bias`.
        xi: ξ ≥ 0, for `adaptive`.
    """

    rho_bounds = (1e-3, 20.0)
    graphable = True

    def __init__(self, base: Optimizer, rho: float = 0.5, *, adaptive: bool = False, xi: float = 0.0, **settings: Any):
        if not xi >= 0:
            raise ValueError(f"xi={xi}: must be at least 0")
        super().__init__(base, rho, **settings)
        self.adaptive, self.xi = adaptive, xi
        self._of_norms = of_norms(self.model) & set(self.parameters)
        if self.model is None:
            raise ValueError("SAM-ON finds normalization layers in the model: it needs model=")
        if not self._of_norms:
            raise ValueError(
                "SAM-ON perturbs normalization layers alone, and this model trains none: take one that has them, such "
                "as model=resnet18 or model.batch_norm=true, or another sam"
            )

    def direction(self, step: Step) -> tuple[Vector, Tensor]:
        kept = [index for index, param in enumerate(step.params) if param in self._of_norms]
        direction: list[Tensor] = [torch.zeros_like(g) for g in step.gradient]
        if not kept:
            return direction, torch.zeros_like(step.gradient_norm)
        own: Vector = [step.gradient[index] for index in kept]
        scaled = own
        if self.adaptive:
            size = torch._foreach_abs([step.params[index] for index in kept])
            torch._foreach_add_(size, self.xi)
            scaled = vector.times(size, own)
            own = vector.times(size, scaled)
        for index, value in zip(kept, own, strict=True):
            direction[index] = value
        return direction, vector.norm(scaled)


def of_norms(model: nn.Module | None) -> set[Tensor]:
    """The parameters that normalization layers have themselves."""
    layers = [] if model is None else [layer for layer in model.modules() if "norm" in type(layer).__name__.lower()]
    return {param for layer in layers for param in layer.parameters(recurse=False)}
