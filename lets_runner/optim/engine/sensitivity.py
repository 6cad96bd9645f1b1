"""J = ∂(update)/∂(gradient) of a base optimizer in one step, elementwise, and the response −J·(change of gradient).

The update is what the optimizer subtracts from the weights. J depends on the state *before* the step; weight decay
and old buffers do not depend on the gradient of this step.

    SGD     η (1 − dampening), η alone on a buffer's first step; Nesterov η (1 + μ · that factor)
    Adam    with m₀, v₀ before the step, v₂ = β₂v₀ + (1−β₂)g², s = √v₂, den = s/√(1−β₂ᵗ) + ε:
            η [((1−β₁)β₂v₀ − (1−β₂)β₁ g m₀)/(s√(1−β₂ᵗ)) + (1−β₁)ε] / ((1−β₁ᵗ) den²)

which is the derivative of Adam's update (Kingma & Ba 2015, Algorithm 1) in a form that does not cancel.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.vector import Vector

# (optimizer, group, parameters, descent gradients, tangents) -> J/η ⊙ tangents, up to the sign of `maximize`
Rule = Callable[[Optimizer, dict[str, Any], Vector, Vector, Vector], Vector]


def response(base: Optimizer, params: Vector, descent: Vector, tangent: Vector) -> Vector:
    """−J ⊙ tangent: how much further each parameter ends up when its gradient changes by `tangent`.

    To be called before `base.step()`, with the very gradients that it will see. Lists run over `params`, which are
    parameters of `base`, in the order of its groups.
    """
    return _respond(RULES.get(type(base), plain), base, params, descent, tangent)


def through_clipping(descent: Vector, tangent: Vector, norm: Tensor, factor: Tensor) -> Vector:
    """The derivative of clipping: f (t − ĝ⟨ĝ, t⟩) where it clips, t where it does not; `descent` is clipped."""
    along = vector.dot(descent, tangent) / (factor * norm).square()
    projection = vector.scaled(descent, torch.where(factor < 1, along, 0.0))
    return vector.scaled(vector.minus(tangent, projection), factor)


def by_learning_rate(base: Optimizer, params: Vector, values: Vector) -> Vector:
    """−η ⊙ values, η the learning rate of each parameter's group: the step of gradient descent along `values`."""
    return _respond(plain, base, params, values, values)


def _respond(rule: "Rule", base: Optimizer, params: Vector, descent: Vector, tangent: Vector) -> Vector:
    position = {param: index for index, param in enumerate(params)}
    result = list(tangent)
    for group in base.param_groups:
        members = [position[p] for p in group["params"] if p in position]
        if not members:
            continue
        own = [[x[i] for i in members] for x in (params, descent, tangent)]
        sign = 1.0 if group.get("maximize") else -1.0
        answer = vector.scaled(rule(base, group, *own), sign * group["lr"])
        for index, value in zip(members, answer, strict=True):
            result[index] = value
    return result


def warn_if_unknown(base: Optimizer) -> None:
    """Say that the response of `base` is approximated by that of plain SGD; a subclass may update otherwise."""
    if type(base) not in RULES:
        known = ", ".join(sorted(kind.__name__ for kind in RULES))
        warnings.warn(
            f"LETS does not know how {type(base).__name__} responds to its gradient and takes its learning rate for "
            f"it; exact for {known}",
            stacklevel=4,
        )


def plain(base: Optimizer, group: dict, params: Vector, descent: Vector, tangent: Vector) -> Vector:
    """J = η: gradient descent, and the stand-in for optimizers not known here."""
    return tangent


def sgd(base: Optimizer, group: dict, params: Vector, descent: Vector, tangent: Vector) -> Vector:
    momentum = group["momentum"]
    if momentum == 0:
        return tangent
    fresh = [base.state[p].get("momentum_buffer") is None if p in base.state else True for p in params]
    weights = [1.0 if new else 1.0 - group["dampening"] for new in fresh]
    if group["nesterov"]:
        weights = [1.0 + momentum * weight for weight in weights]
    return torch._foreach_mul(tangent, weights)


def adam(base: Optimizer, group: dict, params: Vector, descent: Vector, tangent: Vector) -> Vector:
    beta1, beta2 = group["betas"]
    eps = group["eps"]
    first, second, step = _adam_state(base, params)
    correction1 = _each(1 - beta1**step)  # 1 − β₁ᵗ
    root2 = _each((1 - beta2**step).sqrt())  # √(1 − β₂ᵗ)

    g = torch._foreach_neg(descent) if group["maximize"] else descent
    if group["weight_decay"] and not group.get("decoupled_weight_decay", type(base) is AdamW):
        g = torch._foreach_add(g, params, alpha=group["weight_decay"])
    v2 = torch._foreach_mul(second, beta2)
    torch._foreach_addcmul_(v2, g, g, value=1 - beta2)
    s = torch._foreach_sqrt(v2)

    numerator = torch._foreach_mul(second, (1 - beta1) * beta2)
    torch._foreach_addcmul_(numerator, g, first, value=-(1 - beta2) * beta1)
    # Where s = 0, g and v₀ are 0 and so is the numerator: any divisor but 0 gives the term its limit.
    torch._foreach_div_(numerator, torch._foreach_clamp_min(s, _tiny(s)))
    torch._foreach_div_(numerator, root2)

    if group["amsgrad"]:
        return _amsgrad(base, params, tangent, numerator, v2, correction1, root2, eps, beta1)
    denominator = torch._foreach_div(s, root2)
    torch._foreach_add_(denominator, eps)
    torch._foreach_add_(numerator, (1 - beta1) * eps)
    return _finish(tangent, numerator, denominator, correction1)


def _amsgrad(
    base: Optimizer,
    params: Vector,
    tangent: Vector,
    numerator: Vector,
    v2: Vector,
    correction1: Any,
    root2: Any,
    eps: float,
    beta1: float,
) -> Vector:
    """Where the old maximum stands, the denominator does not depend on the gradient: J = η(1−β₁)/((1−β₁ᵗ)den)."""
    old = [base.state[p]["max_exp_avg_sq"] if base.state.get(p) else torch.zeros_like(p) for p in params]
    denominator = torch._foreach_div(torch._foreach_sqrt(torch._foreach_maximum(old, v2)), root2)
    torch._foreach_add_(denominator, eps)
    torch._foreach_add_(numerator, (1 - beta1) * eps)
    constant = torch._foreach_mul(denominator, 1 - beta1)
    numerator = [
        torch.where(stands, c, n)
        for stands, c, n in zip((o >= v for o, v in zip(old, v2, strict=True)), constant, numerator, strict=True)
    ]
    return _finish(tangent, numerator, denominator, correction1)


def _finish(tangent: Vector, numerator: Vector, denominator: Vector, correction1: Any) -> Vector:
    torch._foreach_div_(numerator, denominator)
    torch._foreach_div_(numerator, denominator)
    torch._foreach_div_(numerator, correction1)
    return torch._foreach_mul(numerator, tangent)


def _adam_state(base: Optimizer, params: Vector) -> tuple[Vector, Vector, Tensor]:
    """m₀ and v₀ of every parameter, and t, the number of the coming step, as a float64 vector on its own device."""
    known = [base.state[p] if base.state.get(p) else None for p in params]
    first = [torch.zeros_like(p) if k is None else k["exp_avg"] for p, k in zip(params, known, strict=True)]
    second = [torch.zeros_like(p) if k is None else k["exp_avg_sq"] for p, k in zip(params, known, strict=True)]
    like = next((k["step"] for k in known if k is not None), torch.zeros(()))
    steps = torch.stack([torch.zeros_like(like) if k is None else torch.as_tensor(k["step"]) for k in known])
    return first, second, steps.double() + 1


def _each(values: Tensor) -> Any:
    """One scalar a parameter: numbers if the host has them, 0-dim tensors if asking would wait for the device."""
    return values.tolist() if values.device.type == "cpu" else list(values.unbind())


def _tiny(x: Vector) -> float:
    return torch.finfo(x[0].dtype).tiny


RULES: dict[type[Optimizer], Rule] = {SGD: sgd, Adam: adam, AdamW: adam}
