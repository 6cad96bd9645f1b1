"""Options of LETS and of the rules' constructors that the oracles take as given."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from lets_runner import (
    ASAM,
    GSAM,
    LETS,
    MSAM,
    SAM,
    CosineRadius,
    GapMatching,
    LearningRateRadius,
    LinearRadius,
    LossMatching,
    PiecewiseRadius,
    Ramp,
)
from lets_runner.optim.engine.scalar import ScalarNormalised


def sam(problem, rho=0.1, **settings):
    return SAM(torch.optim.SGD(problem.params, **{"lr": 0.1, **settings}), rho)


def test_an_unknown_base_optimizer_is_named(problem):
    base = torch.optim.RMSprop(problem.params, lr=0.01)
    with pytest.warns(UserWarning, match="RMSprop"):
        optimizer = LETS(SAM(base))
    optimizer.step(problem.closure(0), problem.closure(1))
    optimizer.step(problem.closure(2), problem.closure(1))
    assert math.isfinite(optimizer.last.hypergradient)


def test_a_subclass_may_update_otherwise_and_counts_as_unknown(problem):
    class Mine(torch.optim.SGD):
        pass

    with pytest.warns(UserWarning, match="Mine"):
        LETS(SAM(Mine(problem.params, lr=0.1)))


def hypergradients(problem, lr, **options):
    optimizer = LETS(sam(problem, lr=lr), rho_optimizer="sgd", gap_ema=0.0, **options)
    before = math.log(optimizer.rho)
    for number in range(2):
        optimizer.step(problem.closure(number), problem.closure(9))
    return optimizer.last.hypergradient.item(), math.log(optimizer.rho) - before


def test_lr_invariant_divides_the_move_by_the_learning_rate_and_reports_the_truth():
    from conftest import Problem

    true, moved = hypergradients(Problem(), 1e-4, lr_invariant=False, rho_lr=1.0)
    same, scaled = hypergradients(Problem(), 1e-4, lr_invariant=True, rho_lr=1.0)
    assert same == true
    assert scaled == pytest.approx(1e4 * moved, rel=1e-9)
    assert moved == pytest.approx(-0.1 * true, rel=1e-6)


def test_a_learning_rate_of_zero_has_nothing_to_teach(problem):
    optimizer = LETS(sam(problem, lr=0.0))
    for number in range(3):
        optimizer.step(problem.closure(number), problem.closure(9))
    assert optimizer.rho == pytest.approx(0.1, rel=1e-15)


def test_learning_rates_may_be_tensors(problem):
    base = torch.optim.SGD(problem.params, lr=torch.tensor(0.1), foreach=False)
    optimizer = LETS(SAM(base, 0.1))
    for number in range(3):
        optimizer.step(problem.closure(number), problem.closure(9))
    assert optimizer.rho != 0.1


def test_bounds_hold_and_belong_to_the_variant(problem):
    optimizer = LETS(sam(problem), rho_lr=1.0, rho_optimizer="adam", bounds=(0.09, 0.11))
    seen = set()
    for number in range(8):
        optimizer.step(problem.closure(number), problem.closure(9))
        seen.add(optimizer.rho)
    assert min(seen) >= 0.09
    assert max(seen) <= 0.11
    assert seen & {0.09, 0.11}
    assert LETS(sam(problem)).bounds == (1e-3, 0.5)
    assert LETS(ASAM(torch.optim.SGD(problem.params, lr=0.1))).bounds == (1e-2, 5.0)


@pytest.mark.parametrize(
    "rule", [GapMatching, *(partial(LETS, curvature=name) for name in ("secant", "diag", "exact"))]
)
def test_a_parameter_that_a_shard_does_not_reach_counts_as_zero_there(rule):
    """Like one that has a gradient of zero."""
    seen = []
    for reach in (False, True):
        torch.manual_seed(0)
        layers = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
        optimizer = rule(MSAM(torch.optim.SGD(layers.parameters(), lr=0.1), 0.1, model=layers))
        x = torch.randn(4, 3)

        def part(layers=layers, x=x, reach=reach):
            value = layers[0](x).square().mean()
            return value + 0 * layers[1](x).sum() if reach else value

        def whole(layers=layers, x=x):
            return (layers[0](x) + layers[1](x)).square().mean()

        for _ in range(3):
            optimizer.step([part, whole], [whole])
        seen.append([optimizer.last.rho, *(p.detach() for p in layers.parameters())])
    for ours, theirs in zip(*seen, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert seen[0][0] != 0.1


def test_auto_learning_rate_is_one_of_the_number_of_updates(problem):
    assert LETS(sam(problem), rho_lr="auto", total_steps=100).rho_lr == 0.03
    assert LETS(sam(problem), rho_lr="auto", total_steps=10_000).rho_lr == 20 / 10_000
    assert LETS(sam(problem), rho_lr="auto", total_steps=10_000, every=4).rho_lr == 20 / 2_500


def test_setting_rho_restarts_learning_from_there(problem):
    optimizer = LETS(sam(problem))
    optimizer.rho = 0.3
    optimizer.step(problem.closure(0), problem.closure(1))
    assert optimizer.last.rho_applied.item() == pytest.approx(0.3)
    optimizer.step(problem.closure(2), problem.closure(1))
    assert optimizer.rho == pytest.approx(0.3, rel=0.05)
    with pytest.raises(ValueError, match="above 0"):
        optimizer.rho = 0.0


@pytest.mark.parametrize("kind", [float, torch.tensor])
@pytest.mark.parametrize("build", [GSAM, lambda base, rho, **tie: LearningRateRadius(SAM(base, rho), **tie)])
def test_a_radius_tied_to_the_learning_rate_stays_between_its_ends(problem, build, kind):
    optimizer = build(torch.optim.SGD(problem.params, lr=0.4), 0.2, rho_min=0.1, lr_max=0.4, lr_min=0.2)
    for lr, expected in ((0.0, 0.1), (0.2, 0.1), (0.3, 0.15), (0.4, 0.2), (0.8, 0.2)):
        optimizer.param_groups[0]["lr"] = kind(lr)
        optimizer.step(problem.closure(0))
        assert optimizer.last.rho_applied.item() == pytest.approx(expected)


def test_last_holds_scalars_on_the_device(problem):
    optimizer = LETS(sam(problem))
    for number in range(2):
        optimizer.step(problem.closure(number), problem.closure(9))
    for name in ("loss", "val_loss", "gap", "hypergradient", "rho", "rho_applied", "gradient_norm"):
        value = getattr(optimizer.last, name)
        assert isinstance(value, torch.Tensor)
        assert value.shape == ()
        assert torch.isfinite(value)
        assert not value.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"curvature": "full"}, "curvature=full"),
        ({"upper_batch": "last"}, "upper_batch=last"),
        ({"objective": "loss"}, "objective=loss"),
        ({"rho_optimizer": "lion"}, "rho_optimizer=lion"),
        ({"every": 0}, "every=0"),
        ({"gap_ema": 1.0}, "gap_ema=1.0"),
        ({"rho_eps": 0}, "rho_eps=0"),
        ({"rho_lr": -1}, "rho_lr=-1"),
        ({"rho_lr": "auto"}, "needs total_steps"),
        ({"bounds": (0.5, 0.1)}, "bounds="),
        ({"bounds": (0.2, 0.5)}, "0.1 is not above 0 and within"),
    ],
)
def test_lets_refuses(problem, options, message):
    with pytest.raises(ValueError, match=message):
        LETS(sam(problem), **options)


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        (GapMatching, {"c": -1.0}, "c=-1"),
        (GapMatching, {"ema": 1.0}, "ema=1"),
        (GapMatching, {"every": 0}, "every=0"),
        (GapMatching, {"bounds": (1.0, 2.0)}, "within"),
        (LossMatching, {"h": -1.0}, "h=-1"),
        (LinearRadius, {"total_steps": 0}, "total_steps=0"),
        (CosineRadius, {"total_steps": 5, "end": -1.0}, "end=-1"),
        (PiecewiseRadius, {"total_steps": 0, "points": [[0, 1]]}, "total_steps=0"),
        (PiecewiseRadius, {"total_steps": 5, "points": []}, "pairs"),
        (PiecewiseRadius, {"total_steps": 5, "points": [[0, 1, 2]]}, "pairs"),
        (PiecewiseRadius, {"total_steps": 5, "points": [[0.5, 0.1], [0.5, 0.2]]}, "rise"),
        (PiecewiseRadius, {"total_steps": 5, "points": [[-0.1, 0.1]]}, "rise"),
        (PiecewiseRadius, {"total_steps": 5, "points": [[1.1, 0.1]]}, "at most 1"),
        (PiecewiseRadius, {"total_steps": 5, "points": [[0, -0.1]]}, "at least 0"),
        (LearningRateRadius, {"rho_min": -1.0}, "rho_min=-1"),
        (LearningRateRadius, {"lr_min": 0.1}, "lr_min=0.1"),
        (Ramp, {"total_steps": 10, "cap": 0.0}, "cap=0"),
        (Ramp, {"total_steps": 10, "share": 0.0}, "share=0"),
        (Ramp, {"total_steps": 0}, "total_steps=0"),
    ],
)
def test_other_rules_refuse(problem, rule, options, message):
    with pytest.raises(ValueError, match=message):
        rule(sam(problem), **options)


def test_normalised_counts_a_hypergradient_in_units_of_what_it_has_been():
    """Winsorised, as the class states it; and blind to the scale of the loss, which Adam's ε is not."""
    rng = np.random.default_rng(0)
    gradients = [float(g) for g in rng.standard_t(1.5, 60)]
    active = torch.tensor(True)
    ends = []
    for scale in (1.0, 1e-6):
        optimizer, x = ScalarNormalised(0.01, torch.device("cpu"), warmup=3), torch.tensor(0.0, dtype=torch.float64)
        expected, square = 0.0, (scale * gradients[0]) ** 2
        for number, g in enumerate(gradients):
            x = optimizer.step(x, torch.tensor(scale * g, dtype=torch.float64), active)
            if number >= 3:
                expected -= 0.01 * min(max(scale * g / math.sqrt(square), -3.0), 3.0)
            square = 0.95 * square + 0.05 * min((scale * g) ** 2, 9 * square)
            assert x.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)
        rested = optimizer.step(x, torch.tensor(1.0, dtype=torch.float64), torch.tensor(False))
        assert rested.item() == x.item()
        ends.append(x.item())
    assert abs(ends[0]) > 0.01
    assert ends[0] == pytest.approx(ends[1], rel=1e-9)
