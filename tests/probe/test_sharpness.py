"""m-sharpness and adaptive sharpness against NumPy."""

import numpy as np
import pytest
import torch
from reference import asam_direction, loss_and_gradient, norm, sam_direction
from torch import nn

from lets_runner.probe.objective import Objective
from lets_runner.probe.sharpness import _projected, sharpness
from lets_runner.tasks import Classification

M = 5


@pytest.fixture
def objective(problem):
    """17 examples: three shards of five, and a rest of two; batches cut across a shard."""
    return Objective(
        problem.model, Classification(), (problem.x.flatten(0, 1)[:17], problem.y.flatten()[:17]), batch_size=3
    )


def shards(problem):
    x, y = problem.x.flatten(0, 1)[:17].numpy(), problem.y.flatten()[:17].numpy()
    return [(x[start : start + M], y[start : start + M]) for start in (0, 5, 10)]


@pytest.mark.parametrize("adaptive", [False, True], ids=["plain", "adaptive"])
@pytest.mark.parametrize("rho", [0.05, 0.7])
def test_one_ascent_step_is_the_step_of_sam(problem, objective, rho, adaptive):
    params, rises = problem.numpy_params(), []
    for batch in shards(problem):
        loss, gradient = loss_and_gradient(params, batch)
        unit = (asam_direction if adaptive else sam_direction)(params, gradient)
        there = [p + rho * d for p, d in zip(params, unit, strict=True)]
        rises.append(loss_and_gradient(there, batch)[0] - loss)
    assert sharpness(objective, rho, m=M, adaptive=adaptive) == pytest.approx(np.mean(rises), rel=1e-10)


@pytest.mark.parametrize("adaptive", [False, True], ids=["plain", "adaptive"])
def test_several_steps_are_projected_ascent(problem, objective, adaptive):
    rho, steps = 0.8, 4
    params, rises = problem.numpy_params(), []
    scale = [np.abs(p) + 0.01 if adaptive and p.ndim == 2 else np.ones_like(p) for p in params]
    for batch in shards(problem):
        losses = []
        delta = [np.zeros_like(p) for p in params]
        for _ in range(steps):
            there = [p + d for p, d in zip(params, delta, strict=True)]
            uphill = [s * g for s, g in zip(scale, loss_and_gradient(there, batch)[1], strict=True)]
            delta = [d + rho * s * u / norm(uphill) for d, s, u in zip(delta, scale, uphill, strict=True)]
            length = norm([d / s for d, s in zip(delta, scale, strict=True)])
            delta = [d * min(1, rho / length) for d in delta]
            losses.append(loss_and_gradient([p + d for p, d in zip(params, delta, strict=True)], batch)[0])
        rises.append(max(losses) - loss_and_gradient(params, batch)[0])
    assert sharpness(objective, rho, m=M, steps=steps, adaptive=adaptive) == pytest.approx(np.mean(rises), rel=1e-9)


def test_projection_shortens_what_lies_outside_and_nothing_else():
    inside, outside = [torch.tensor([0.3, 0.0]), torch.tensor([0.4])], [torch.tensor([3.0, 0.0]), torch.tensor([4.0])]
    torch.testing.assert_close(list(_projected(inside, 1.0)), inside)
    torch.testing.assert_close(list(_projected(outside, 1.0)), [torch.tensor([0.6, 0.0]), torch.tensor([0.8])])


def test_more_steps_never_find_less_and_at_times_more(objective):
    found = [sharpness(objective, 1.5, m=M, steps=steps) for steps in (1, 2, 5, 10)]
    assert found == sorted(found)
    assert found[-1] > 1.01 * found[0]


def test_too_few_examples_make_one_shard(problem, objective):
    x, y = problem.x.flatten(0, 1)[:17].numpy(), problem.y.flatten()[:17].numpy()
    params = problem.numpy_params()
    loss, gradient = loss_and_gradient(params, (x, y))
    there = [p + 0.1 * d for p, d in zip(params, sam_direction(params, gradient), strict=True)]
    expected = loss_and_gradient(there, (x, y))[0] - loss
    assert sharpness(objective, 0.1, m=128) == pytest.approx(expected, rel=1e-10)


def test_weights_are_as_before_to_the_bit(problem, objective):
    before = problem.numpy_params()
    sharpness(objective, 0.3, m=M, steps=3, adaptive=True)
    for param, copy in zip(problem.params, before, strict=True):
        assert np.array_equal(param.detach().numpy(), copy)


def test_a_flat_point_has_none():
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    balanced = torch.ones(4, 2), torch.tensor([0, 1, 0, 1])
    assert sharpness(Objective(model, Classification(), balanced), 0.1, m=4) == 0.0
