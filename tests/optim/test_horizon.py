"""Horizon LETS against a reference in NumPy float64, and what it promises: no start, no scale."""

import math

import numpy as np
import pytest
import reference
import torch
from conftest import Problem
from optim.test_oracles import VARIANTS, assert_same_weights, sgd_response_to_gradient

from lets_runner import ASAM, SAM, HorizonLETS, LookSAM, NonFiniteError

T = 80  # steps of the whole training, of which the tests take fewer


class Average:
    def __init__(self):
        self.total = self.weight = 0.0

    def __call__(self, value):
        self.total, self.weight = 0.95 * self.total + 0.05 * value, 0.95 * self.weight + 0.05
        return self.total / self.weight


class Oracle:
    """The rule, written out from its equations; `looks` at which it learns nothing are 27."""

    def __init__(self, *, horizon=0.05, budget=0.2, bounds=(0.05, 1.0), speed=40.0, floor=0.002, every=1):
        self.decay, self.rate = 1 - 1 / max(5, horizon * T), min(speed / T, 0.1) * every
        self.nu, self.bounds, self.floor = math.log(budget), bounds, floor
        self.loss, self.norm, self.steps, self.looks = Average(), Average(), 0, 0
        self.displacement = self.square = None

    def rho(self, loss, norm):
        self.steps += 1
        loss, norm = self.loss(loss), self.norm(norm)
        if self.steps <= 5:
            self.first = loss
        return max(math.exp(self.nu) * min(loss, self.first - loss), self.floor * loss) / norm

    def moved(self, change):
        old = self.displacement or [np.zeros_like(c) for c in change]
        self.displacement = [self.decay * z + c for z, c in zip(old, change, strict=True)]

    def look(self, gradient):
        slope = reference.dot(gradient, self.displacement)
        h = slope / (reference.norm(gradient) * reference.norm(self.displacement))
        self.looks += 1
        square = h * h if self.looks == 1 else self.square
        move = max(-3, min(3, h / math.sqrt(square)))
        self.square = 0.95 * square + 0.05 * min(h * h, 9 * square)
        if self.looks > 27:
            low, high = (math.log(bound) for bound in self.bounds)
            self.nu = max(low, min(high, self.nu - self.rate * move))
        return slope


@pytest.mark.parametrize("settings", [{}, {"every": 2, "speed": 4.0, "bounds": (0.15, 0.25)}, {"horizon": 0.5}])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_numpy(variant, settings):
    cls, _, direction = VARIANTS[variant]
    problem = Problem()
    base = torch.optim.SGD(problem.params, lr=0.3, momentum=0.9, weight_decay=1e-2, nesterov=True)
    optimizer = HorizonLETS(cls(base, 0.3), total_steps=T, **settings)
    params, plain = problem.numpy_params(), reference.SGD(0.3, 0.9, nesterov=True, weight_decay=1e-2)
    oracle, budgets = Oracle(**settings), set()
    for number in range(70):
        base.param_groups[0]["lr"] = plain.lr = 0.3 * (1 - number / T)
        optimizer.step(problem.closure(number % 20), problem.closure(19 - number % 20))
        batch, val = problem.numpy_batch(number % 20), problem.numpy_batch(19 - number % 20)
        loss, g = reference.loss_and_gradient(params, batch)
        scaled = (
            g
            if variant == "sam"
            else [(np.abs(p) + 0.01 if p.ndim >= 2 else 1) * d for p, d in zip(params, g, strict=True)]
        )
        rho = oracle.rho(loss, reference.norm(scaled))
        assert optimizer.last.rho_applied.item() == pytest.approx(rho, rel=1e-10)
        moved = reference.perturbed(params, direction(params, g), rho)
        g_s = reference.loss_and_gradient(moved, batch)[1]
        oracle.moved([-sgd_response_to_gradient(plain) * (b - a) for a, b in zip(g, g_s, strict=True)])
        params = plain.step(params, g_s)
        if number % settings.get("every", 1) == 0:
            val_loss, gradient = reference.loss_and_gradient(params, val)
            slope = oracle.look(gradient)
            assert optimizer.last.val_loss.item() == pytest.approx(val_loss, rel=1e-10)
            assert optimizer.last.hypergradient.item() == pytest.approx(slope / rho, rel=1e-7)
        assert optimizer.budget == pytest.approx(math.exp(oracle.nu), rel=1e-8)
        budgets.add(optimizer.budget)
    assert_same_weights(problem, params, 1e-9)
    assert len(budgets) >= 5
    assert optimizer.gradient_evaluations == 140 + 70 // settings.get("every", 1)


@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_starts_are_one_and_the_same_run(variant):
    ends = []
    for rho in (0.01, 0.05, 0.5):
        problem = Problem()
        optimizer = HorizonLETS(variant(torch.optim.SGD(problem.params, lr=0.3, momentum=0.9), rho), total_steps=T)
        for number in range(40):
            optimizer.step(problem.closure(number % 20), problem.closure(19 - number % 20))
        ends.append((optimizer.rho, [p.detach() for p in problem.params]))
    assert ends[0][0] == ends[1][0] == ends[2][0]
    for weights in zip(*(end[1] for end in ends), strict=True):
        assert all(torch.equal(weights[0], other) for other in weights)


def test_the_scale_of_the_loss_does_not_show():
    """The loss doubled and the learning rate halved: the same trajectory, of twice the losses."""
    runs = []
    for scale in (1.0, 2.0):
        problem = Problem()
        optimizer = HorizonLETS(SAM(torch.optim.SGD(problem.params, lr=0.25 / scale)), total_steps=T)
        radii = []
        for number in range(40):
            train, val = problem.closure(number % 20), problem.closure(19 - number % 20)
            optimizer.step(lambda train=train, scale=scale: scale * train(), lambda val=val, scale=scale: scale * val())
            radii.append(float(optimizer.last.rho_applied))
        runs.append(radii)
    assert runs[0] == pytest.approx(runs[1], rel=1e-9)


def test_it_looks_only_where_a_step_perturbs_and_is_due(problem):
    optimizer = HorizonLETS(LookSAM(torch.optim.SGD(problem.params, lr=0.1), k=3), total_steps=T, every=2)
    asked = []
    for number in range(19):
        optimizer.step(problem.closure(number), lambda number=number: asked.append(number) or problem.closure(0)())
    assert asked == [0, 6, 12, 18]


def test_a_bad_validation_pass_is_named(problem):
    optimizer = HorizonLETS(SAM(torch.optim.SGD(problem.params, lr=0.1)), total_steps=T)
    with pytest.raises(NonFiniteError, match="step 1: the validation pass"):
        optimizer.step(problem.closure(0), lambda: problem.closure(1)() * float("inf"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"total_steps": 0}, "total_steps=0"),
        ({"horizon": 0.0}, "horizon=0.0"),
        ({"speed": -1.0}, "speed=-1.0"),
        ({"budget": 2.0}, "budget=2.0"),
        ({"bounds": (0.0, 1.0)}, "budget=0.2: must lie within bounds"),
        ({"every": 0}, "every=0"),
    ],
)
def test_settings_out_of_range_are_refused(problem, settings, message):
    with pytest.raises(ValueError, match=message):
        HorizonLETS(SAM(torch.optim.SGD(problem.params, lr=0.1)), **{"total_steps": T, **settings})


def test_it_needs_a_validation_batch(problem):
    optimizer = HorizonLETS(SAM(torch.optim.SGD(problem.params, lr=0.1)), total_steps=T)
    with pytest.raises(ValueError, match="needs a validation batch"):
        optimizer.step(problem.closure(0))


def test_a_radius_that_would_drown_in_rounding_is_raised(problem):
    optimizer = HorizonLETS(SAM(torch.optim.SGD(problem.params, lr=0.1), smallest_rho=0.02), total_steps=T)
    optimizer.step(problem.closure(0), problem.closure(1))
    assert float(optimizer.last.rho_applied) == 0.02  # before there is progress the floor alone would give less
