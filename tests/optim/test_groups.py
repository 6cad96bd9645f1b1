"""Radii of parameter groups, against NumPy; what cannot be wrapped is refused when SAM is built."""

import numpy as np
import pytest
import torch
from torch import nn

from lets_runner import ASAM, GSAM, LETS, SAM, HorizonLETS, UnperturbedSAM


def grouped(problem, *rhos, **settings):
    """SGD with a group for every parameter; None for no `rho` of its own."""
    pairs = zip(problem.params, rhos, strict=True)
    groups = [{"params": [p]} | ({} if rho is None else {"rho": rho}) for p, rho in pairs]
    return torch.optim.SGD(groups, lr=0.1, **settings)


def displacement(optimizer, problem, val=None):
    """θ' − θ of one step, and the gradient at θ."""
    before = [p.detach().clone() for p in problem.params]
    gradient = [g.numpy() for g in torch.autograd.grad(problem.closure(0)(), problem.params)]
    seen = []

    def closure():
        seen.append([(p.detach() - old).numpy() for p, old in zip(problem.params, before, strict=True)])
        return problem.closure(0)()

    optimizer.step(closure, val)
    return seen[1], gradient, [old.numpy() for old in before]


def test_a_radius_a_group_over_the_norm_of_all(problem):
    found, gradient, _ = displacement(SAM(grouped(problem, 0.3, 0.0, None, 0.02), rho=0.1), problem)
    norm = np.sqrt(sum((g**2).sum() for g in gradient))
    for moved, g, rho in zip(found, gradient, (0.3, 0.0, 0.1, 0.02), strict=True):
        np.testing.assert_allclose(moved, rho * g / norm, rtol=1e-10, atol=1e-15)


def test_asam_has_them_too(problem):
    found, gradient, weights = displacement(ASAM(grouped(problem, 0.3, 0.0, 1.0, None), rho=0.5), problem)
    size = [np.abs(w) + 0.01 if w.ndim > 1 else np.ones_like(w) for w in weights]
    norm = np.sqrt(sum(((s * g) ** 2).sum() for s, g in zip(size, gradient, strict=True)))
    for moved, s, g, rho in zip(found, size, gradient, (0.3, 0.0, 1.0, 0.5), strict=True):
        np.testing.assert_allclose(moved, rho * s * s * g / norm, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("rule", [LETS, lambda sam: HorizonLETS(sam, total_steps=10)])
def test_a_rule_scales_all_of_them(problem, rule):
    optimizer = rule(SAM(grouped(problem, 0.3, 0.0, None, 0.05), rho=0.1))
    for _ in range(3):
        found, gradient, _ = displacement(optimizer, problem, problem.closure(1))
        norm = np.sqrt(sum((g**2).sum() for g in gradient))
        rho = float(optimizer.last.rho_applied)
        for moved, g, factor in zip(found, gradient, (3, 0, 1, 0.5), strict=True):
            np.testing.assert_allclose(moved, factor * rho * g / norm, rtol=1e-9, atol=1e-12)
    assert rho != pytest.approx(0.1, rel=1e-6)


def test_the_hypergradient_knows_of_them(problem):
    """dF/dρ with F = ½(L_V − L)² after a step with ρ and the groups' multiples of it, by central differences."""
    start = [p.detach().clone() for p in problem.params]

    def restore():
        for p, old in zip(problem.params, start, strict=True):
            p.data.copy_(old)

    def objective(rho):
        restore()
        SAM(grouped(problem, 3 * rho, 0.0, None, 0.5 * rho), rho=rho).step(problem.closure(0))
        with torch.no_grad():
            return 0.5 * (problem.closure(1)() - problem.closure(0)()).item() ** 2

    by_differences = (objective(0.1 + 1e-5) - objective(0.1 - 1e-5)) / 2e-5
    restore()
    sam = SAM(grouped(problem, 0.3, 0.0, None, 0.05), rho=0.1)
    optimizer = LETS(sam, curvature="exact", upper_batch="same")
    optimizer.step(problem.closure(0), problem.closure(1))
    assert float(optimizer.last.hypergradient) == pytest.approx(by_differences, rel=1e-5)


def test_groups_that_come_later(problem):
    base = torch.optim.SGD(problem.params[:2], lr=0.1)
    optimizer = SAM(base, rho=0.1)
    optimizer.add_param_group({"params": [problem.params[2]], "rho": 0.0})
    base.add_param_group({"params": [problem.params[3]], "rho": 0.2})
    found, gradient, _ = displacement(optimizer, problem)
    norm = np.sqrt(sum((g**2).sum() for g in gradient))
    for moved, g, rho in zip(found, gradient, (0.1, 0.1, 0.0, 0.2), strict=True):
        np.testing.assert_allclose(moved, rho * g / norm, rtol=1e-10, atol=1e-15)


def test_a_group_of_its_own_radius_everywhere_is_that_radius(problem):
    one, other = (
        GSAM(grouped(problem, *[rho] * 4, momentum=0.9), rho=start) for rho, start in ((0.2, 0.1), (None, 0.2))
    )
    assert [p.shape for p in one.parameters] == [p.shape for p in other.parameters]
    found, _, before = displacement(one, problem)
    for p, old in zip(problem.params, before, strict=True):
        p.data.copy_(torch.from_numpy(old))
    expected, _, _ = displacement(other, problem)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf"), "wide"])
def test_impossible_radii_are_refused(problem, rho):
    with pytest.raises(ValueError, match="a parameter group has rho="):
        SAM(grouped(problem, rho, None, None, None))


def test_radii_without_one_to_scale_them_by(problem):
    base = grouped(problem, 0.1, None, None, None)
    with pytest.raises(ValueError, match="SAM rho=0, which switches all of them off"):
        SAM(base, rho=0)
    UnperturbedSAM(base).step(problem.closure(0))


def test_a_radius_that_changes_later_is_refused(problem):
    optimizer = SAM(grouped(problem, 0.1, None, None, None))
    optimizer.param_groups[0]["rho"] = 0.2
    with pytest.raises(ValueError, match=r"has changed since SAM was built: .* or set optimizer.rho"):
        optimizer.step(problem.closure(0))


def test_what_cannot_be_wrapped():
    weight = nn.Parameter(torch.ones(3))
    with pytest.raises(TypeError, match="LBFGS evaluates losses by itself"):
        SAM(torch.optim.LBFGS([weight]))
    with pytest.raises(ValueError, match=r"a parameter is complex: make torch\.view_as_real"):
        SAM(torch.optim.SGD([weight, nn.Parameter(torch.ones(2, dtype=torch.complex64))], lr=0.1))


def test_a_spectral_norm_counts_one_pass_of_a_step():
    torch.manual_seed(0)
    linear = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 5))
    model = nn.Sequential(linear, nn.Tanh(), nn.Linear(5, 1)).double()
    estimate = linear.parametrizations.weight[0]
    inputs = torch.randn(8, 5, dtype=torch.float64)
    optimizer = LETS(SAM(torch.optim.SGD(model.parameters(), lr=0.1), model=model))
    for _ in range(2):
        weight = linear.parametrizations.weight.original.detach().numpy()
        u = weight @ estimate._v.numpy()
        v = weight.T @ (u / np.linalg.norm(u))
        optimizer.step(*2 * [lambda: model(inputs).square().mean()])
        np.testing.assert_allclose(estimate._v.numpy(), v / np.linalg.norm(v), rtol=1e-12)
        np.testing.assert_allclose(estimate._u.numpy(), u / np.linalg.norm(u), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
def test_the_old_spectral_norm_is_refused():
    model = nn.Sequential(nn.utils.spectral_norm(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"0 has torch\.nn\.utils\.spectral_norm, which counts every pass"):
        SAM(torch.optim.SGD(model.parameters(), lr=0.1), model=model)
