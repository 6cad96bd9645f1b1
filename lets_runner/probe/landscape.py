"""The loss along random directions from the weights, as a curve and as a surface.

Li, Xu, Taylor, Studer, Goldstein, *Visualizing the Loss Landscape of Neural Nets*, 2018 (arXiv 1712.09913): every
filter of a direction has the norm of the filter that it moves, so that landscapes of different networks compare.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from tqdm import tqdm

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.vector import Vector
from lets_runner.probe.objective import Objective

AXES = ("alpha", "beta")
Landscape = dict[str, np.ndarray]


@torch.no_grad()
def filter_normalised(weights: Vector, *, seed: tuple[int, ...]) -> Vector:
    """A Gaussian direction d with ‖d_i‖ = ‖θ_i‖ for every filter i: what feeds one output channel or unit.

    Vectors (biases, scales and shifts of normalisation) do not move. The Gaussian numbers are a function of `seed`
    and of the weights' shapes alone, whatever their values, precision and device.
    """
    rng = np.random.default_rng(seed)
    drawn = [torch.from_numpy(rng.standard_normal(tuple(weight.shape))).to(weight) for weight in weights]
    pairs = zip(drawn, weights, strict=True)
    return [_rescaled(d, weight) if weight.ndim > 1 else torch.zeros_like(d) for d, weight in pairs]


def _rescaled(direction: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    have, want = (tensor.flatten(1).norm(dim=1) for tensor in (direction, weight))
    return direction * (want / have).view(-1, *[1] * (weight.ndim - 1))


def landscape(objective: Objective, directions: Sequence[Vector], *, points: int, span: float) -> Landscape:
    """The loss and the task's scores at θ + α d₁, or at θ + α d₁ + β d₂.

    Args:
        directions: one or two.
        points: along each direction; odd, so that θ itself is one of them.
        span: α and β run from -span to span, in units of the filters' norms.

    Returns:
        `alpha` (and `beta`) of shape (points,), `loss` and every score by its name, of shape (points,) or
        (points, points), with α along the first dimension.
    """
    half = points // 2
    places = span * np.arange(-half, half + 1) / half
    shape = (points,) * len(directions)
    names = [column.name for column in objective.task.columns.all]
    values = np.empty((*shape, len(names)))
    with objective.at_origin() as origin:
        for index in tqdm(list(product(range(points), repeat=len(shape))), "landscape", disable=None, leave=False):
            there = origin
            for number, direction in zip(index, directions, strict=True):
                there = vector.plus(there, vector.scaled(direction, float(places[number])))
            objective.move(there)
            measured = objective.measure()
            values[index] = [measured[name] for name in names]
    axes = {axis: places for axis, _ in zip(AXES, directions, strict=False)}
    return {**axes, **{name: values[..., number] for number, name in enumerate(names)}}
