"""Momentum-SAM and SAMPa, over which no rule can learn: what else there is to say of them."""

import math

import pytest
import torch
from optim.programs import DECAY, MOMENTUM, RATE, closure, network, sgd

from lets_runner import LETS, CosineRadius, FixedRadius, MomentumSAM, SAMPa


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda base, model: SAMPa(base, lambda_=1.5), "lambda_=1.5: must lie in"),
        (lambda base, model: MomentumSAM(torch.optim.SGD(model.parameters(), lr=0.1)), "SGD keeps no momentum"),
        (lambda base, model: MomentumSAM(torch.optim.Adagrad(model.parameters())), "Adagrad keeps no momentum"),
        (lambda base, model: LETS(MomentumSAM(base)), "LETS cannot learn the radius of MomentumSAM: it evaluates no"),
        (lambda base, model: LETS(SAMPa(base)), "LETS cannot learn the radius of SAMPa: its two gradients"),
    ],
)
def test_refuses(build, message):
    model = network()
    with pytest.raises(ValueError, match=message):
        build(sgd(model.parameters()), model)


@pytest.mark.parametrize("variant", [MomentumSAM, SAMPa])
def test_a_plan_may_move_their_radius(variant):
    model = network()
    optimizer = CosineRadius(variant(sgd(model.parameters()), 0.2, model=model), total_steps=4, end=0.1)
    applied = []
    for number in range(4):
        optimizer.step(closure(model, number))
        applied.append(float(optimizer.last.rho_applied))
    assert applied == pytest.approx([0.15 + 0.05 * math.cos(math.pi * number / 4) for number in range(4)])


@pytest.mark.parametrize("variant", [MomentumSAM, SAMPa])
def test_they_descend_for_who_maximizes(variant):
    """With `maximize` and a loss of the other sign nothing is different but what counts as up."""
    model, mirror = network(), network()
    one = variant(sgd(model.parameters()), 1e-9, model=model)
    base = torch.optim.SGD(mirror.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, maximize=True)
    other = variant(base, 1e-9, model=mirror)
    for number in range(5):
        one.step(closure(model, number))
        other.step(lambda n=number: -closure(mirror, n)())
    for a, b in zip(model.parameters(), mirror.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)


def test_an_update_stands_where_sampa_s_second_pass_raises():
    models = [network(), network()]
    optimizers = [SAMPa(sgd(model.parameters()), model=model) for model in models]
    for model, optimizer in zip(models, optimizers, strict=True):
        for number in range(3):
            optimizer.step(closure(model, number))
    calls = []

    def breaks():
        calls.append(None)
        if len(calls) == 2:
            raise RuntimeError("no more data")
        return closure(models[0], 3)()

    with pytest.raises(RuntimeError, match="no more data"):
        optimizers[0].step(breaks)
    optimizers[1].step(closure(models[1], 3))
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))


@pytest.mark.parametrize("variant", [MomentumSAM, SAMPa])
def test_a_step_that_is_not_finite_leaves_the_weights_of_before(variant):
    model = network()
    optimizer = FixedRadius(variant(sgd(model.parameters()), model=model))
    for number in range(3):
        optimizer.step(closure(model, number))
    before = [p.detach().clone() for p in model.parameters()]
    for bad in (1, 2) if variant is SAMPa else (1,):
        calls = []

        def loss(calls=calls, bad=bad):
            calls.append(None)
            return closure(model, 3)() * (math.inf if len(calls) == bad else 1.0)

        with pytest.raises(FloatingPointError, match=r"step [45]: the (first|perturbed) pass"):
            optimizer.step(loss)
        assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
