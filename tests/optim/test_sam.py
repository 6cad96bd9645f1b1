"""The step of SAM and its interface: what oracles and the contract do not show."""

import copy
import math
import warnings

import pytest
import torch
from torch import nn

from lets_runner import ASAM, LETS, SAM, FixedRadius, UnperturbedSAM


def sgd(params, **settings):
    return torch.optim.SGD(params, **{"lr": 0.1, **settings})


def perturbation(optimizer, problem):
    """θ' − θ of one step, and θ."""
    before = [p.detach().clone() for p in problem.params]
    seen = []

    def closure():
        seen.append([p.detach() - old for p, old in zip(problem.params, before, strict=True)])
        return problem.closure(0)()

    optimizer.step(closure)
    return seen[-1], before


def test_sam_perturbs_by_rho(problem):
    epsilon, _ = perturbation(SAM(sgd(problem.params), 0.3), problem)
    assert torch.cat([e.flatten() for e in epsilon]).norm().item() == pytest.approx(0.3, rel=1e-12)


@pytest.mark.parametrize("xi", [0.01, 0.5])
def test_asam_perturbs_by_rho_in_units_of_the_weights(problem, xi):
    epsilon, before = perturbation(ASAM(sgd(problem.params), 0.3, xi=xi), problem)
    relative = [e / (p.abs() + xi) if p.ndim > 1 else e for e, p in zip(epsilon, before, strict=True)]
    assert torch.cat([e.flatten() for e in relative]).norm().item() == pytest.approx(0.3, rel=1e-12)


def test_is_an_optimizer_that_shares_groups_and_state(problem):
    base = sgd(problem.params, momentum=0.9)
    optimizer = LETS(SAM(base))
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups is base.param_groups
    assert optimizer.base is base
    optimizer.step(problem.closure(0), problem.closure(1))
    assert optimizer.state[problem.params[0]]["momentum_buffer"] is base.state[problem.params[0]]["momentum_buffer"]
    extra = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer.add_param_group({"params": [extra], "lr": 0.5})
    assert base.param_groups[1]["lr"] == 0.5
    base.load_state_dict(base.state_dict())  # rebinds the base's list
    assert optimizer.param_groups is base.param_groups


@pytest.mark.parametrize("level", ["base", "sam", "rule"])
def test_a_scheduler_may_hold_any_of_them(problem, level):
    base = sgd(problem.params)
    sam = SAM(base)
    optimizer = FixedRadius(sam)
    scheduler = torch.optim.lr_scheduler.StepLR({"base": base, "sam": sam, "rule": optimizer}[level], 2, gamma=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(3):
            optimizer.step(problem.closure(number))
            scheduler.step()
    assert base.param_groups[0]["lr"] == pytest.approx(0.01)


def test_step_hooks_run_and_a_copy_lives_alone(problem):
    optimizer = SAM(sgd(problem.params))
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    optimizer.step(problem.closure(0))
    assert seen == [1]
    twin = copy.deepcopy(optimizer)
    assert twin.param_groups is not optimizer.param_groups
    assert "SAM(SGD" in repr(twin)


def test_groups_keep_their_learning_rates(problem):
    """A step with two groups is the sum of the steps of each: same gradients, own rates."""
    twin = copy.deepcopy(problem)
    SAM(sgd(problem.params, lr=0.0, momentum=0.0), 0.2).step(problem.closure(0))
    gradients = [p.grad.clone() for p in problem.params]
    before = [p.detach().clone() for p in twin.params]
    first, second = twin.params[:2], twin.params[2:]
    SAM(torch.optim.SGD([{"params": first, "lr": 0.1}, {"params": second, "lr": 0.7}]), 0.2).step(twin.closure(0))
    for param, old, gradient, lr in zip(twin.params, before, gradients, (0.1, 0.1, 0.7, 0.7), strict=True):
        torch.testing.assert_close(param.detach(), old - lr * gradient, rtol=1e-12, atol=0)


def test_zero_gradient_perturbs_nothing_and_lets_rho_rest():
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = LETS(SAM(sgd([weight]), 0.05))
    slope = nn.Parameter(torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64), requires_grad=False)
    optimizer.step(lambda: (weight.exp() * slope).sum(), lambda: (weight.exp() * slope).sum() * 2)
    optimizer.step(lambda: (weight.exp() * slope).sum(), lambda: (weight.exp() * slope).sum() * 2)
    learnt = optimizer.rho
    assert learnt != 0.05
    before = weight.detach().clone()
    for _ in range(3):  # Adam's momentum on ρ would go on
        optimizer.step(lambda: (weight * 0).sum(), lambda: (weight.exp() * slope).sum())
    settled = optimizer.rho
    optimizer.step(lambda: (weight * 0).sum(), lambda: (weight.exp() * slope).sum())
    assert optimizer.rho == settled
    assert torch.equal(weight, before)
    assert torch.isfinite(weight).all()


def test_dropout_draws_the_same_mask_in_both_passes():
    torch.manual_seed(0)
    dropout = nn.Dropout(0.5)
    weight = nn.Parameter(torch.ones(50))
    masks = []

    def closure():
        kept = dropout(torch.ones(50))
        masks.append(kept)
        return (weight * kept).sum()

    optimizer = SAM(sgd([weight]))
    optimizer.step(closure)
    optimizer.step(closure)
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[2], masks[3])
    assert not torch.equal(masks[0], masks[2])


def test_an_outer_autocast_does_not_hide_the_perturbation():
    """Autocast caches cast weights; a second pass that reads the cache would see the weights unperturbed."""
    torch.manual_seed(0)
    model = nn.Linear(8, 8)
    x = torch.randn(16, 8)
    losses = []

    def closure():
        loss = model(x).float().square().mean()
        losses.append(loss.item())
        return loss

    optimizer = LETS(SAM(sgd(model.parameters(), lr=0.5), 0.5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        optimizer.step(closure, closure)
    assert losses[1] > losses[0]
    assert losses[2] < losses[0]


def test_bf16_autocast_trains_and_learns_rho():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 2))
    x, x_val = torch.randn(64, 10), torch.randn(64, 10)

    def loss(inputs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return nn.functional.cross_entropy(model(inputs).float(), (inputs[:, 0] > 0).long())

    optimizer = LETS(SAM(sgd(model.parameters(), momentum=0.9), 0.05))
    losses = [optimizer.step(lambda: loss(x), lambda: loss(x_val)).item() for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    assert optimizer.rho != 0.05
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_half_precision_gradients_have_norms_in_fp32():
    weight = nn.Parameter(torch.full((10000,), 0.01, dtype=torch.bfloat16))
    optimizer = SAM(sgd([weight]))
    optimizer.step(lambda: (weight.float() * 3).sum())
    assert optimizer.last.gradient_norm.dtype == torch.float32
    assert optimizer.last.gradient_norm.item() == pytest.approx(300, rel=1e-3)


@pytest.mark.parametrize("rho", [-1, math.nan, math.inf, "0.1", None])
def test_refuses_a_radius_that_is_none(problem, rho):
    with pytest.raises(ValueError, match="rho="):
        SAM(sgd(problem.params), rho)


def test_refuses_a_class_in_place_of_an_optimizer(problem):
    with pytest.raises(TypeError, match="wraps a built optimizer"):
        SAM(problem.params)


def test_refuses_closures_that_give_no_loss(problem):
    optimizer = SAM(sgd(problem.params))
    with pytest.raises(ValueError, match=r"every example's, not a tensor of shape \(16, 3\)"):
        optimizer.step(lambda: problem.model(problem.x[0]))
    with pytest.raises(ValueError, match="not float"):
        optimizer.step(lambda: 1.0)
    with pytest.raises(ValueError, match="does not depend on any parameter"):
        optimizer.step(lambda: problem.closure(0)().detach())

    def backward_inside():
        loss = problem.closure(0)()
        loss.backward(retain_graph=True)
        return loss

    with pytest.raises(ValueError, match=r"take backward\(\) out"):
        optimizer.step(backward_inside)


def test_refuses_sparse_gradients_by_name():
    embedding = nn.Embedding(10, 3, sparse=True)
    optimizer = SAM(sgd(embedding.parameters()))
    with pytest.raises(ValueError, match="sparse=False"):
        optimizer.step(lambda: embedding(torch.tensor([1, 2])).square().sum())


def test_a_learned_radius_needs_a_validation_closure(problem):
    with pytest.raises(ValueError, match=r"step\(train, val\)"):
        LETS(SAM(sgd(problem.params))).step(problem.closure(0))


def test_the_validation_closure_is_called_only_when_used(problem):
    calls = []
    optimizer = LETS(SAM(sgd(problem.params)), every=3)
    for number in range(6):
        optimizer.step(problem.closure(number), lambda n=number: calls.append(n) or problem.closure(10)())
    assert calls == [0, 3]
    rests = LETS(UnperturbedSAM(sgd(problem.params)))
    rests.step(problem.closure(0), lambda: pytest.fail("called"))
    assert rests.rho == 0.05


def test_state_of_another_class_is_refused(problem):
    state = FixedRadius(SAM(sgd(problem.params))).state_dict()
    with pytest.raises(ValueError, match="not a state of LETS"):
        LETS(SAM(sgd(problem.params))).load_state_dict(state)


def test_rules_go_no_lower_than_the_smallest_radius(problem):
    sam = SAM(torch.optim.SGD(problem.params, lr=0.1), smallest_rho=0.01)
    assert sam.rho_bounds == (0.01, 0.5)
    assert SAM.rho_bounds == (1e-3, 0.5)
    with pytest.raises(ValueError, match=r"smallest_rho=0\.5"):
        SAM(torch.optim.SGD(problem.params, lr=0.1), smallest_rho=0.5)
