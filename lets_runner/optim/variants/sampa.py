"""SAMPa: two gradients that do not wait for each other, one of them a step ahead.

Xie, Pethick, Cevher, *SAMPa: Sharpness-aware Minimization Parallelized*, NeurIPS 2024 (arXiv 2410.10683):

    x̃_t     = x_t + ρ ∇f(y_t)/‖∇f(y_t)‖
    y_{t+1} = x_t − η ∇f(y_t)
    x_{t+1} = x_t − η [(1−λ) ∇f(x̃_t) + λ ∇f(y_{t+1})]

∇f(y_t) and ∇f(x̃_t) belong to batch B_t, as in the authors' program (LIONS-EPFL/SAMPa, train.py), which computes
∇f(x̃_t) beside ∇f(y_{t+1}) on a second device. Here one comes after the other, so a step with batch B_t is

    y_t from x_{t−1}        ∇f(y_t; B_t)        x_t        ∇f(x̃_t; B_t), which the next step descends along

and gives the same x_t. With SGD's momentum b and weight decay w their program looks ahead along ∇f(y_t) + w x_t + μ b.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from lets_runner.optim.engine import sensitivity, vector
from lets_runner.optim.engine.memory import Memory
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Batch, Observer, Step


class SAMPa(SAM):
    """SAMPa on one device: SAM's two gradient evaluations a step, in SAMPa's places. See `SAM` for how to use it.

    The loss and the gradient norm of a step are those at y_t. The second pass comes after the update: where it raises,
    the update stands. Radii may be planned (`Ramp`, `CosineRadius` and others), but no rule can learn one.

    Args:
        rho: 0.1 in the authors' program.
        lambda_: λ in [0, 1], how much of the step follows the gradient ahead; 0.2 in the authors' program.
    """

    unlearnable = "its two gradients are taken at weights of different steps, so their difference is not due to rho"
    remembers = (*SAM.remembers, "_ahead", "_perturbed")
    local_perturbations = False
    graphable = True

    def __init__(self, base: Optimizer, rho: float = 0.1, *, lambda_: float = 0.2, **settings: Any):
        if not 0 <= lambda_ <= 1:
            raise ValueError(f"lambda_={lambda_}: must lie in [0, 1]")
        super().__init__(base, rho, **settings)
        self.lambda_ = lambda_
        self._ahead = Memory(self)  # ∇f(y_t; B_t)
        self._perturbed = Memory(self)  # ∇f(x̃_t; B_t)

    def _run(self, step: Step, val: Batch | None, rule: Observer) -> None:
        rule.before_perturbation(step, val)
        if self.radius_is_zero:
            self._ahead.forget()
            self._perturbed.forget()
            self.first_pass(step)
        else:
            with self.moved_weights(self.parameters, self._move_ahead()):
                self.first_pass(step)
        self.share_statistics()
        self.check("first", step, step.loss, step.gradient_norm)
        self._take(step, val, rule)

    def _move_ahead(self) -> Vector:
        """y_t − x_{t−1}; in the first step zero, but for what momentum there may be from before."""
        along = list(self._ahead.recall(self.parameters))
        if isinstance(self.inner, SGD):
            for group in self.param_groups:
                _add_momentum(self.inner, group, along, self.parameters)
        return sensitivity.by_learning_rate(self.inner, self.parameters, along)

    def combine(self, step: Step) -> Vector:
        if self.radius_is_zero:
            return step.gradient
        before = self._perturbed.recall(step.params, default=step.gradient)
        return vector.plus(vector.scaled(before, 1 - self.lambda_), vector.scaled(step.gradient, self.lambda_))

    def finish(self, step: Step) -> None:
        """The second pass, at x̃_t."""
        if self.radius_is_zero:
            return
        self.perturbed_steps += 1
        self.aim(step)
        step.rho = self._rho = self.radius(step)
        self.perturbed_pass(step, Observer())
        assert step.perturbed_gradient is not None and step.perturbed_loss is not None
        self.check("perturbed", step, step.perturbed_loss, vector.norm(step.perturbed_gradient))
        self._ahead.keep(step.params, step.gradient)
        self._perturbed.keep(step.params, step.perturbed_gradient)


def _add_momentum(base: SGD, group: dict[str, Any], along: list[Tensor], params: Sequence[Tensor]) -> None:
    """Add w x + μ b where there is a b; with `maximize` it counts against the gradient."""
    sign = -1 if group["maximize"] else 1
    own = set(group["params"])
    buffers = {p: base.state[p].get("momentum_buffer") for p in params if p in own and p in base.state}
    members = [index for index, p in enumerate(params) if buffers.get(p) is not None]
    if members:
        values = torch._foreach_add(
            [along[i] for i in members], [buffers[params[i]] for i in members], alpha=sign * group["momentum"]
        )
        torch._foreach_add_(values, [params[i] for i in members], alpha=sign * group["weight_decay"])
        for index, value in zip(members, values, strict=True):
            along[index] = value
