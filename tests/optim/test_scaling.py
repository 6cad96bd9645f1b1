"""Loss scaling: it changes no number that is finite, and a step that is not is skipped whole."""

import io
import math
from functools import partial

import pytest
import torch
from optim.test_contract import BASES, PAIRS, VARIANTS, build_rule, build_sam, make_model, run
from torch import nn

from lets_runner import LETS, SAM, FixedRadius, GapMatching, LossMatching, NonFiniteError
from lets_runner.optim.engine.finite import DeferredGuard
from lets_runner.optim.engine.scaling import LossScale

CPU = torch.device("cpu")


@pytest.mark.parametrize(("variant", "rule"), PAIRS)
def test_a_scale_that_is_a_power_of_two_changes_nothing(variant, rule):
    weights = []
    for scale in (None, 2.0**10):
        model = make_model()
        optimizer = build_rule(rule, build_sam(variant, BASES["sgd"](model.parameters()), model, loss_scale=scale))
        torch.manual_seed(1)
        run(optimizer, model, range(6))
        weights.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def make(rule=LETS, deferred=False, fused=False, start=8.0, patience=3, variant=None, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=fused)
    sam = (
        SAM(base, model=model, loss_scale=start)
        if variant is None
        else build_sam(variant, base, model, loss_scale=start)
    )
    sam._scale.patience = patience
    if deferred:
        sam._guard = DeferredGuard(CPU, skip=False, scale=sam._scale)  # as on an accelerator
    return model, rule(sam, **settings)


X, Y = torch.randn(16, 4, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 2


def closure(model, bad_at=None, forward=True, labels=Y, factor=float("inf")):
    """Every example's loss; in call number `bad_at` infinite, or finite with a gradient that overflows."""
    calls = 0

    def loss():
        nonlocal calls
        calls += 1
        value = nn.functional.cross_entropy(model(X), labels, reduction="none")
        if calls == bad_at:
            if forward:
                return value * float("inf")
            value.register_hook(lambda gradient: gradient * factor)
        return value

    return loss


def snapshot(model, optimizer):
    momentum = [optimizer.state[p]["momentum_buffer"].clone() for p in model.parameters()]
    return [p.detach().clone() for p in model.parameters()] + momentum


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("forward", [True, False], ids=["loss", "gradient"])
@pytest.mark.parametrize("fused", [False, True], ids=["", "fused"])
@pytest.mark.parametrize("deferred", [False, True], ids=["", "deferred"])
@pytest.mark.parametrize("bad_at", [1, 2], ids=["first", "perturbed"])
def test_a_bad_step_is_skipped_whole_and_the_scale_lowered_once(bad_at, deferred, fused, forward):
    model, optimizer = make(deferred=deferred, fused=fused)
    for _ in range(2):
        optimizer.step(closure(model), closure(model))
    before = snapshot(model, optimizer)
    optimizer.step(closure(model, bad_at, forward), closure(model))
    if not (deferred and not fused):  # there momentum decays, as it does with a zero gradient
        assert same(snapshot(model, optimizer), before)
    assert same([p.detach() for p in model.parameters()], before[:6])
    assert float(optimizer.sam._scale.scale) == 4
    assert optimizer.sam.skipped == 1
    optimizer.step(closure(model), closure(model))
    assert not same(snapshot(model, optimizer), before)
    assert optimizer.sam.skipped == 1
    optimizer.settle()


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "none"])
@pytest.mark.parametrize("deferred", [False, True], ids=["", "deferred"])
def test_every_variant_goes_on_after_a_bad_step(variant, deferred):
    model, optimizer = make(FixedRadius, deferred, variant=variant)
    for number in range(8):
        optimizer.step(closure(model, (number - 2) if number in (3, 4) else None))
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert torch.isfinite(optimizer.last.loss)
    assert 1 <= optimizer.sam.skipped <= 2
    before = snapshot(model, optimizer)
    optimizer.step(closure(model))
    assert not same(snapshot(model, optimizer)[:6], before[:6])
    assert all(torch.isfinite(value).all() for value in snapshot(model, optimizer))


@pytest.mark.parametrize("deferred", [False, True], ids=["", "deferred"])
def test_a_bad_validation_pass_lowers_the_scale_and_the_radius_rests(deferred):
    model, optimizer = make(deferred=deferred)
    seen, radii = [], []
    for bad_at in (None, None, 1, None):
        optimizer.step(closure(model), closure(model, bad_at, labels=1 - Y))
        seen.append(snapshot(model, optimizer))
        radii.append(optimizer.rho)
    assert not same(seen[1], seen[2])  # the update of that step stands
    assert radii[1] != radii[2]  # so does what the step before had taught
    assert radii[2] == radii[3]
    assert float(optimizer.sam._scale.scale) == 4
    assert optimizer.sam.skipped == 0
    optimizer.settle()


@pytest.mark.parametrize("bad_at", [1, 2], ids=["first", "perturbed"])
@pytest.mark.parametrize("forward", [True, False], ids=["loss", "gradient"])
def test_averages_outlive_a_bad_step(bad_at, forward):
    """Where the host learns of it late: gap matching's averages, and those of AE-SAM's trigger."""
    model, optimizer = make(GapMatching, deferred=True, variant="ae_sam")
    optimizer.sam._trigger.lambda1 = optimizer.sam._trigger.lambda2 = -100.0  # every step perturbs
    for number in range(6):
        optimizer.step(closure(model, bad_at if number == 3 else None, forward), closure(model, labels=1 - Y))
    trigger = optimizer.sam._trigger
    assert all(map(math.isfinite, (trigger.mean, trigger.variance, optimizer.rho)))
    averages = (optimizer._loss, optimizer._perturbed_loss, optimizer._slope, optimizer._val_loss)
    assert all(torch.isfinite(average.mean) for average in averages)
    assert optimizer.sam.skipped == 1
    assert optimizer.sam.perturbed_steps >= 5


@pytest.mark.parametrize("bad_at", [1, 2], ids=["first", "perturbed"])
@pytest.mark.parametrize("rule", [GapMatching, LossMatching, partial(LETS, upper_batch="same")])
def test_a_bad_step_teaches_no_rule_whenever_the_host_learns_of_it(rule, bad_at):
    """The losses are finite, only the gradients are not: nothing but the verdict tells."""
    radii = []
    for deferred in (False, True):
        model, optimizer = make(rule, deferred=deferred, fused=True)
        for number in range(6):
            bad = bad_at if number == 3 else None
            optimizer.step(closure(model, bad, forward=False), closure(model, labels=1 - Y))
            radii.append(optimizer.rho)
        assert optimizer.sam.skipped == 1
    assert radii[2] == radii[3] != radii[4]
    assert radii[:6] == radii[6:]


def test_a_bad_first_step_is_not_remembered_as_a_gradient_of_zero():
    seen = []
    for deferred in (False, True):
        model, optimizer = make(FixedRadius, deferred=deferred, fused=True, variant="vasso")
        optimizer.step(closure(model, 1))
        optimizer.step(closure(model))
        seen.append(optimizer.sam._average.recall(list(model.parameters())))
    for ours, theirs in zip(*seen, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gap_matching_outlives_a_gradient_whose_norm_alone_overflows():
    """Then nothing is nan, and the slope of the loss along the perturbation infinite."""
    model, optimizer = make(GapMatching, deferred=True)
    for number in range(6):
        bad = closure(model, 1 if number == 3 else None, forward=False, factor=1e25)
        optimizer.step(bad, closure(model, labels=1 - Y))
    assert torch.isfinite(optimizer._slope.mean)
    assert optimizer.sam.skipped == 1


def test_a_step_that_raises_after_its_update_does_not_hide_the_next_that_is_skipped():
    model, optimizer = make()
    optimizer.step(closure(model), closure(model))

    def broken():
        raise RuntimeError("no more data")

    with pytest.raises(RuntimeError, match="no more data"):
        optimizer.step(closure(model), broken)
    optimizer.step(closure(model, 1), closure(model))
    assert optimizer.sam.skipped == 1


def test_gap_matching_skips_a_step_whose_validation_loss_is_bad():
    model, optimizer = make(GapMatching)
    optimizer.step(closure(model), closure(model))
    before = snapshot(model, optimizer)
    optimizer.step(closure(model), closure(model, 1))
    assert same(snapshot(model, optimizer), before)
    assert float(optimizer.sam._scale.scale) == 4


@pytest.mark.parametrize("deferred", [False, True], ids=["", "deferred"])
def test_what_no_scale_can_mend_is_raised(deferred):
    model, optimizer = make(deferred=deferred, fused=deferred)
    optimizer.step(closure(model), closure(model))
    before = snapshot(model, optimizer)
    with pytest.raises(NonFiniteError, match="the first pass"):
        for _ in range(8):
            optimizer.step(closure(model, 1), closure(model))
    assert optimizer.sam.skipped >= 3
    assert same(snapshot(model, optimizer), before)
    assert float(optimizer.sam._scale.scale) == 1


def test_the_scale_doubles_after_good_steps_and_is_part_of_the_state():
    model, optimizer = make()
    seen = []
    for _ in range(7):
        optimizer.step(closure(model), closure(model))
        seen.append(float(optimizer.sam._scale.scale))
    assert seen == [8, 8, 16, 16, 16, 32, 32]
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    _, other = make()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert float(other.sam._scale.scale) == 32
    assert int(other.sam._scale.streak) == 1


def test_the_scale_stays_between_its_ends():
    scale = LossScale(CPU, start=1.0, patience=1)
    yes, no = torch.tensor(True), torch.tensor(False)
    assert [bool(scale.update(yes)), float(scale.scale)] == [False, 1]
    for _ in range(40):
        assert not scale.update(no)
    assert float(scale.scale) == 2**24


def test_float16_trains_with_it_and_loses_small_gradients_without():
    """Gradients of 1e-8 are zero in float16; the scale keeps them."""
    moved = {}
    for scale in (None, "dynamic"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        optimizer = SAM(torch.optim.SGD(model.parameters(), lr=1e6), 0.05, model=model, loss_scale=scale)

        def loss(model=model):
            with torch.autocast("cpu", dtype=torch.float16):
                return nn.functional.mse_loss(model(X).float(), torch.ones(16, 2)) * 1e-8

        before = model[0].weight.detach().clone()
        optimizer.step(loss)
        moved[scale] = (model[0].weight - before).norm().item()
    exact = SAM  # the same step in float32
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    before = model[0].weight.detach().clone()
    exact(torch.optim.SGD(model.parameters(), lr=1e6), 0.05).step(
        lambda: nn.functional.mse_loss(model(X), torch.ones(16, 2)) * 1e-8
    )
    expected = (model[0].weight - before).norm().item()
    assert moved["dynamic"] == pytest.approx(expected, rel=0.02)
    assert moved[None] < 0.5 * expected


@pytest.mark.parametrize("setting", ["static", 0.0, 3.0, 8.25, 0.5, 2.0**25, float("nan"), float("inf"), -4])
def test_refuses(setting):
    with pytest.raises(ValueError, match="loss_scale="):
        SAM(torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1), loss_scale=setting)
