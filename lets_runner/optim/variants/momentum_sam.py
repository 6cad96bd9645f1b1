"""Momentum-SAM: perturb along the negative momentum, which is there already: one gradient evaluation a step.

Becker, Altrock, Risse, *Momentum-SAM: Sharpness Aware Minimization without Computational Overhead*, 2024
(arXiv 2401.12033). With b the momentum of the base optimizer,

    ε̂ = −b/‖b‖        descend along ∇L(θ + ρε̂; B)

(The authors call it MSAM, as m-SAM is called here.) Their program (MarlonBecker/MSAM, optimizer/msam.py and
adamW_msam.py) has SGD's momentum or Adam's first moment for b, and decays the perturbed weights where SGD decays the
weights themselves here.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Batch, Observer, Step

MOMENTA = ("momentum_buffer", "exp_avg")  # what torch's optimizers call it in their state


class MomentumSAM(SAM):
    """Momentum-SAM; costs what the base optimizer costs. See `SAM` for how to use it.

    Loss and gradient norm of a step are those at θ + ρε̂, and there batch-norm layers count too: running statistics are
    not quite those of the weights. The first step has no momentum yet and is the base optimizer's. Radii may be planned
    (`Ramp`, `CosineRadius` and others), but no rule can learn one.

    Args:
        base: an optimizer with momentum: SGD with `momentum` above 0, or one like Adam.
        rho: about ten times SAM's. The authors' program has 3 in all of its examples, and 0.3 by default.
    """

    unlearnable = "it evaluates no gradient at the weights themselves, which the perturbed one could be compared with"
    local_perturbations = False
    graphable = True

    def __init__(self, base: Optimizer, rho: float = 0.3, **settings: Any):
        super().__init__(base, rho, **settings)
        for group in self.param_groups:
            if not (group.get("momentum") or "betas" in group):
                raise ValueError(
                    f"{type(base).__name__} keeps no momentum for MomentumSAM to perturb along: take SGD with momentum "
                    "above 0 (optimizer.momentum=0.9), or AdamW"
                )

    def _run(self, step: Step, val: Batch | None, rule: Observer) -> None:
        rule.before_perturbation(step, val)
        if self.radius_is_zero:
            self.first_pass(step)
        else:
            self.perturbed_steps += 1
            step.params = self.parameters
            self.aim(step)
            step.rho = self._rho = self.radius(step)
            with self.perturbed_weights(step):
                self.first_pass(step)
        self.share_statistics()
        self.check("first", step, step.loss, step.gradient_norm)
        self._take(step, val, rule)

    def direction(self, step: Step) -> tuple[Vector, Tensor]:
        """−b and ‖b‖, b being 0 where the base optimizer has not kept any yet."""
        momentum = [self._momentum(param) for param in step.params]
        return torch._foreach_neg(momentum), vector.norm(momentum)

    def _momentum(self, param: Tensor) -> Tensor:
        state = self.state.get(param, {})
        return next((state[name] for name in MOMENTA if state.get(name) is not None), torch.zeros_like(param))
