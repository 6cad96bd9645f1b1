"""m-sharpness and adaptive sharpness: how far the loss rises within a ball around the weights.

Foret et al. 2021 (arXiv 2010.01412, section 4.1): the mean over shards of m examples, each with its own ascent, of

    max L_j(θ + δ) − L_j(θ)   over ‖δ‖ ≤ ρ, or over ‖T⁻¹δ‖ ≤ ρ: adaptive

Adaptive as in ASAM (Kwon et al. 2021, arXiv 2102.11600; Andriushchenko et al. 2023, arXiv 2302.07011 measure it): a
rescaling of the weights that leaves the function as it is leaves this as it is, but for ξ.
"""

import torch
from tqdm import tqdm

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.step import SMALLEST_NORM
from lets_runner.probe.objective import Objective

XI = 0.01  # ASAM's ξ


def sharpness(objective: Objective, rho: float, *, m: int, steps: int = 1, adaptive: bool = False) -> float:
    """The mean rise of the loss over the shards of `objective`.

    Args:
        rho: radius of the ball, > 0.
        m: examples in a shard; one shard of all if there are not as many.
        steps: of projected gradient ascent. One is SAM's own ascent, δ = ρ g/‖g‖ (adaptive: ρ T²g/‖Tg‖); of
            several, the highest loss on the way counts, so that more steps never find less.
        adaptive: measure δ in ASAM's norm, T = |θ| + 0.01 on weights and 1 on vectors.
    """
    shards = tqdm(objective.shards(m), f"sharpness at {rho:g}", disable=None, leave=False)
    rises = [_rise(shard, rho, steps=steps, adaptive=adaptive) for shard in shards]
    return sum(rises) / len(rises)


def _rise(objective: Objective, rho: float, *, steps: int, adaptive: bool) -> float:
    """max L(θ + Tu) − L(θ) over ‖u‖ ≤ ρ, as far as the ascent finds it; 0 where the gradient is zero."""
    rises = []
    start = objective.loss()
    with objective.at_origin() as origin:
        scale = _asam_scale(origin) if adaptive else [torch.ones_like(weight) for weight in origin]
        u: Vector = [torch.zeros_like(weight) for weight in origin]
        for _ in range(steps):
            uphill = vector.times(scale, objective.gradient())
            if (norm := vector.norm(uphill)) <= SMALLEST_NORM:
                break
            u = _projected(vector.plus(u, vector.scaled(uphill, rho / norm)), rho)
            objective.move(vector.plus(origin, vector.times(scale, u)))
            rises.append(objective.loss() - start)
    return max(rises, default=0.0)


def _asam_scale(weights: Vector) -> Vector:
    """T, elementwise."""
    return [weight.abs() + XI if weight.ndim >= 2 else torch.ones_like(weight) for weight in weights]


def _projected(u: Vector, rho: float) -> Vector:
    """The point of the ball that is nearest to `u`."""
    return vector.scaled(u, (rho / vector.norm(u)).clamp(max=1.0))
