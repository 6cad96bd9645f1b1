"""Variants and radius rules against references in NumPy float64."""

import math

import numpy as np
import pytest
import reference
import torch
from conftest import Problem

from lets_runner import (
    ASAM,
    LETS,
    SAM,
    CosineRadius,
    FixedRadius,
    GapMatching,
    LearningRateRadius,
    LinearRadius,
    LossMatching,
    PiecewiseRadius,
    Ramp,
    UnperturbedSAM,
)

BASES = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.1), lambda: reference.SGD(0.1)),
    "momentum": (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
        lambda: reference.SGD(0.1, 0.9, weight_decay=1e-2),
    ),
    "nesterov": (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        lambda: reference.SGD(0.1, 0.9, nesterov=True),
    ),
    "adamw": (
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        lambda: reference.Adam(0.01, weight_decay=0.1, decoupled=True),
    ),
}
VARIANTS = {
    "sam": (SAM, 0.2, reference.sam_direction),
    "asam": (ASAM, 0.5, reference.asam_direction),
}


def assert_same_weights(problem, params, tolerance=1e-12):
    for ours, theirs in zip(problem.params, params, strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("limit", [None, 0.1], ids=["", "clipped"])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_trajectory_equals_numpy(problem, variant, base, limit):
    cls, rho, direction = VARIANTS[variant]
    build, reference_base = BASES[base]
    optimizer = cls(build(problem.params), rho, max_grad_norm=limit)
    params, oracle = problem.numpy_params(), reference_base()
    for number in range(12):
        loss = optimizer.step(problem.closure(number))
        expected, gradient = reference.loss_and_gradient(params, problem.numpy_batch(number))
        params = reference.sam_step(oracle, params, problem.numpy_batch(number), rho, direction, limit)
        assert loss.item() == pytest.approx(expected, rel=1e-10)
        assert optimizer.last.gradient_norm.item() == pytest.approx(reference.norm(gradient), rel=1e-10)
    assert_same_weights(problem, params, 1e-10)


@pytest.mark.parametrize("base", BASES)
def test_unperturbed_equals_the_base_optimizer_in_numpy(problem, base):
    build, reference_base = BASES[base]
    optimizer = FixedRadius(UnperturbedSAM(build(problem.params)))
    params, oracle = problem.numpy_params(), reference_base()
    for number in range(12):
        optimizer.step(problem.closure(number))
        params = oracle.step(params, reference.loss_and_gradient(params, problem.numpy_batch(number))[1])
    assert_same_weights(problem, params)
    assert optimizer.gradient_evaluations == 12


def adam_on_log_rho(nu, gradient, state, lr, eps):
    state["t"] = state.get("t", 0) + 1
    state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * gradient
    state["v"] = 0.999 * state.get("v", 0.0) + 0.001 * gradient**2
    m_hat, v_hat = state["m"] / (1 - 0.9 ** state["t"]), state["v"] / (1 - 0.999 ** state["t"])
    return nu - lr * m_hat / (math.sqrt(v_hat) + eps)


def sgd_response_to_gradient(oracle):
    """J of the reference SGD, read off its definition."""
    factor = 1.0 if not oracle.momentum or oracle.buffers is None else 1 - oracle.dampening
    return oracle.lr * (1 + oracle.momentum * factor if oracle.nesterov else factor)


def curvature_product(name, g, g_s, epsilon):
    """ρ H ε̂ by the formulas; `epsilon` is ρ ε̂."""
    if name == "secant":
        return [b - a for a, b in zip(g, g_s, strict=True)]
    return [b**2 * e for b, e in zip(g_s, epsilon, strict=True)]


@pytest.mark.parametrize(
    "options",
    [
        {"gap_ema": 0.0, "lr_invariant": False, "rho_eps": 1e-8, "bounds": (0.0, math.inf)},
        {"gap_ema": 0.9},
        {"rho_optimizer": "sgd", "rho_lr": 1.0},
        {"every": 3, "gap_ema": 0.5},
    ],
    ids=["plain", "default", "sgd", "every"],
)
@pytest.mark.parametrize("upper_batch", ["same", "next"])
@pytest.mark.parametrize("curvature", ["secant", "diag"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_lets_equals_numpy(problem, variant, curvature, upper_batch, options):
    """ρ, gap, hypergradient and weights of 12 steps, to 1e-12, written out from the equations."""
    cls, rho, direction = VARIANTS[variant]
    base = torch.optim.SGD(problem.params, lr=0.1, momentum=0.9, nesterov=True)
    optimizer = LETS(cls(base, rho), curvature=curvature, upper_batch=upper_batch, **options)

    params, oracle = problem.numpy_params(), reference.SGD(0.1, 0.9, nesterov=True)
    low, high = options.get("bounds", cls.rho_bounds)
    every, decay = options.get("every", 1), options.get("gap_ema", 0.99)
    nu, state, average, weight, pending = math.log(rho), {}, 0.0, 0.0, None

    def learn(nu, val_loss, train_loss, slope_per_rho):
        nonlocal average, weight
        gap = val_loss - train_loss
        average, weight = decay * average + (1 - decay) * gap, decay * weight + (1 - decay)
        gradient = math.exp(nu) * average / weight * slope_per_rho
        if options.get("lr_invariant", True):
            gradient /= 0.1
        if options.get("rho_optimizer") == "sgd":
            nu = nu - 1.0 * gradient
        else:
            nu = adam_on_log_rho(nu, gradient, state, 0.03, options.get("rho_eps", 1e-3))
        return min(max(nu, math.log(low) if low else -math.inf), math.log(high)), gap, gap * slope_per_rho

    for number in range(12):
        optimizer.step(problem.closure(number), problem.closure(19 - number))
        batch, val = problem.numpy_batch(number), problem.numpy_batch(19 - number)
        loss, g = reference.loss_and_gradient(params, batch)
        seen = None
        if pending is not None:
            val_loss, val_gradient, v = pending
            slope = reference.dot([a - b for a, b in zip(val_gradient, g, strict=True)], v)
            nu, *seen = learn(nu, val_loss, loss, slope)
            pending = None
        rho_t = math.exp(nu)
        epsilon = [rho_t * e for e in direction(params, g)]
        _, g_s = reference.loss_and_gradient([p + e for p, e in zip(params, epsilon, strict=True)], batch)
        product = curvature_product(curvature, g, g_s, epsilon)
        v = [-sgd_response_to_gradient(oracle) * h / rho_t for h in product]
        params = oracle.step(params, g_s)
        if number % every == 0:
            val_loss, val_gradient = reference.loss_and_gradient(params, val)
            if upper_batch == "next":
                pending = val_loss, val_gradient, v
            else:
                train_loss, train_gradient = reference.loss_and_gradient(params, batch)
                slope = reference.dot([a - b for a, b in zip(val_gradient, train_gradient, strict=True)], v)
                nu, *seen = learn(nu, val_loss, train_loss, slope)

        assert optimizer.last.rho_applied.item() == pytest.approx(rho_t, rel=1e-11)
        assert optimizer.rho == pytest.approx(math.exp(nu), rel=1e-11)
        if seen is None:
            assert math.isnan(optimizer.last.gap) and math.isnan(optimizer.last.hypergradient)
        else:
            assert optimizer.last.gap.item() == pytest.approx(seen[0], rel=1e-9)
            assert optimizer.last.hypergradient.item() == pytest.approx(seen[1], rel=1e-9)
    assert_same_weights(problem, params, 1e-11)
    assert abs(math.log(optimizer.rho / rho)) > 1e-4


def test_objective_val_descends_the_validation_loss(problem):
    """With F = L(θ_{t+1}; V), dF/dρ is ⟨∇L_V, v⟩ and there is no gap."""
    base = torch.optim.SGD(problem.params, lr=0.1)
    optimizer = LETS(SAM(base, 0.2), objective="val", lr_invariant=False, rho_optimizer="sgd", rho_lr=5.0)
    params = problem.numpy_params()
    batch = problem.numpy_batch(0)
    _, g = reference.loss_and_gradient(params, batch)
    _, g_s = reference.loss_and_gradient(reference.perturbed(params, reference.sam_direction(params, g), 0.2), batch)
    v = [-0.1 * (b - a) / 0.2 for a, b in zip(g, g_s, strict=True)]
    val_loss, val_gradient = reference.loss_and_gradient(reference.SGD(0.1).step(params, g_s), problem.numpy_batch(1))
    slope = reference.dot(val_gradient, v)

    optimizer.step(problem.closure(0), problem.closure(1))
    assert optimizer.last.val_loss.item() == pytest.approx(val_loss, rel=1e-12)
    assert optimizer.last.hypergradient.item() == pytest.approx(slope, rel=1e-10)
    assert math.isnan(optimizer.last.gap)
    assert math.log(optimizer.rho / 0.2) == pytest.approx(-5.0 * 0.2 * slope, rel=1e-9)
    assert optimizer.gradient_evaluations == 3


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_gap_matching_equals_numpy(problem, variant, every):
    cls, _, direction = VARIANTS[variant]
    rho = 0.02
    optimizer = GapMatching(cls(torch.optim.SGD(problem.params, lr=0.5), rho), ema=0.8, every=every)
    params, oracle = problem.numpy_params(), reference.SGD(0.5)
    sums = dict.fromkeys(("loss", "plus", "slope", "val"), 0.0)
    weights = dict(sums)

    def average(name, value, decay):
        sums[name] = decay * sums[name] + (1 - decay) * value
        weights[name] = decay * weights[name] + (1 - decay)

    moves = set()
    for number in range(15):
        optimizer.step(problem.closure(number), problem.closure(19 - number))
        batch = problem.numpy_batch(number)
        loss, g = reference.loss_and_gradient(params, batch)
        unit = direction(params, g)
        plus, g_s = reference.loss_and_gradient(reference.perturbed(params, unit, rho), batch)
        average("loss", loss, 0.8)
        average("plus", plus, 0.8)
        average("slope", rho * reference.dot(unit, g), 0.8)  # ⟨ε̂, g⟩ = n, the norm that ε̂ was divided by
        if number % every == 0:
            average("val", reference.loss_and_gradient(params, problem.numpy_batch(19 - number))[0], 0.8**every)
        mean = {name: sums[name] / weights[name] for name in sums}
        if number < 5:
            first = mean["loss"]
        sharpness = max(mean["plus"] - mean["loss"], mean["slope"])
        wanted = 3.0 * max(mean["val"] - mean["loss"], 0) + 0.02 * max(first - mean["loss"], 0)
        delta = min(max(math.log(wanted / sharpness), -1), 1) if wanted > 0 else -1
        moves.add(np.sign(delta))
        rho = min(max(rho * math.exp((0.1 if delta > 0 else 0.5) * delta), 1e-3), 20.0)
        params = oracle.step(params, g_s)
        assert optimizer.rho == pytest.approx(rho, rel=1e-10)
    assert moves == {-1, 1}
    assert optimizer.gradient_evaluations == 30
    assert_same_weights(problem, params, 1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_matching_equals_numpy(problem, variant):
    cls, _, direction = VARIANTS[variant]
    rho = 0.02
    optimizer = LossMatching(cls(torch.optim.SGD(problem.params, lr=0.5), rho), ema=0.8)
    params, oracle, history, moves = problem.numpy_params(), reference.SGD(0.5), [], set()
    for number in range(15):
        optimizer.step(problem.closure(number))
        batch = problem.numpy_batch(number)
        loss, g = reference.loss_and_gradient(params, batch)
        unit = direction(params, g)
        plus, g_s = reference.loss_and_gradient(reference.perturbed(params, unit, rho), batch)
        history.append((loss, plus, rho * reference.dot(unit, g)))
        weights = 0.8 ** np.arange(len(history))[::-1]
        loss_mean, plus_mean, slope = (weights @ np.array(history)) / weights.sum()
        if number < 5:
            first = loss_mean
        wanted = 0.25 * max(first - loss_mean, 0)
        delta = min(max(math.log(wanted / max(plus_mean - loss_mean, slope)), -1), 1) if wanted > 0 else -1
        moves.add(np.sign(delta))
        rho = min(max(rho * math.exp((0.1 if delta > 0 else 0.5) * delta), 1e-3), 20.0)
        params = oracle.step(params, g_s)
        assert optimizer.rho == pytest.approx(rho, rel=1e-9)
    assert moves == {-1, 1}
    assert not optimizer.needs_validation


def radii(rule, steps, **settings):
    problem = Problem()
    optimizer = rule(SAM(torch.optim.SGD(problem.params, lr=0.1), 0.2), **settings)
    used = []
    for number in range(steps):
        optimizer.step(problem.closure(number))
        used.append(optimizer.last.rho_applied.item())
    return used


def test_schedules_follow_their_curves():
    assert radii(LinearRadius, 5, total_steps=4, end=0.1) == pytest.approx([0.2, 0.175, 0.15, 0.125, 0.1])
    cosine = [0.1 + 0.1 * math.cos(math.pi * t / 8) ** 2 for t in range(5)]
    assert radii(CosineRadius, 5, total_steps=4, end=0.1) == pytest.approx(cosine)


def test_a_piecewise_radius_goes_through_its_points():
    assert radii(PiecewiseRadius, 6, total_steps=4, points=[[0.25, 0.1], [0.5, 0.3], [1.0, 0.1]]) == pytest.approx(
        [0.1, 0.1, 0.3, 0.2, 0.1, 0.1]
    )


def test_learning_rate_radius_follows_the_scheduler():
    problem = Problem()
    base = torch.optim.SGD(problem.params, lr=0.4)
    optimizer = LearningRateRadius(SAM(base, 0.2), rho_min=0.1, lr_min=0.1)
    for lr, expected in ((0.4, 0.2), (0.25, 0.15), (0.1, 0.1)):
        base.param_groups[0]["lr"] = lr
        optimizer.step(problem.closure(0))
        assert optimizer.last.rho_applied.item() == pytest.approx(expected)


def test_ramp_is_geometric_up_to_its_cap():
    problem = Problem()
    optimizer = Ramp(SAM(torch.optim.SGD(problem.params, lr=0.1), 0.01), total_steps=10, cap=0.16, share=0.4)
    used = []
    for number in range(6):
        optimizer.step(problem.closure(number))
        used.append(optimizer.last.rho_applied.item())
    assert used == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16, 0.16])
    assert Ramp(ASAM(torch.optim.SGD(problem.params, lr=0.1)), total_steps=10).cap == ASAM.rho_bounds[1]
