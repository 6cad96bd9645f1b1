"""Losses and gradients that are not finite: weights as before, the pass and the step named."""

import pytest
import torch
from torch import nn

from lets_runner import LETS, SAM, FixedRadius, GapMatching, NonFiniteError
from lets_runner.optim.engine import finite, passes
from lets_runner.optim.engine.finite import LATENCY, DeferredGuard
from lets_runner.optim.engine.ranks import Alone


def make(nonfinite="raise", rule=LETS, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=settings.pop("fused", False))
    return model, rule(SAM(base, 0.05, model=model, nonfinite=nonfinite), **settings)


X, Y = torch.randn(16, 4, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 2


def closure(model, bad_at=None):
    """The loss; infinite in the call number `bad_at`."""
    calls = 0

    def loss():
        nonlocal calls
        calls += 1
        value = nn.functional.cross_entropy(model(X), Y)
        return value * float("inf") if calls == bad_at else value

    return loss


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("train_bad", "val_bad", "name"),
    [
        (1, None, "first"),
        (2, None, "perturbed"),
        (None, 1, "validation"),
        (3, None, "second training"),
    ],
)
def test_every_pass_is_named_and_the_weights_are_as_before(train_bad, val_bad, name):
    model, optimizer = make(upper_batch="same")
    optimizer.step(closure(model), closure(model))
    before = snapshot(model)
    with pytest.raises(NonFiniteError, match=f"step 2: the {name} pass") as caught:
        optimizer.step(closure(model, train_bad), closure(model, val_bad))
    assert (caught.value.pass_name, caught.value.step) == (name, 2)
    assert caught.value.rho == pytest.approx(optimizer.rho)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_gap_matching_names_its_validation_pass():
    model, optimizer = make(rule=GapMatching)
    with pytest.raises(NonFiniteError, match="validation pass"):
        optimizer.step(closure(model), closure(model, 1))


@pytest.mark.parametrize("bad_at", [1, 2])
def test_skipping_leaves_everything_and_counts(bad_at):
    model, optimizer = make("skip")
    optimizer.step(closure(model), closure(model))
    before = snapshot(model)
    optimizer.step(closure(model, bad_at), closure(model))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert optimizer.sam.skipped == 1
    for _ in range(3):
        optimizer.step(closure(model), closure(model))
    assert optimizer.sam.skipped == 1
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert torch.isfinite(optimizer.last.rho)


def deferred(nonfinite, **settings):
    """An optimizer whose guard works as on an accelerator: verdicts stay tensors until they are polled."""
    model, optimizer = make(nonfinite, **settings)
    optimizer.sam._guard = DeferredGuard(torch.device("cpu"), skip=nonfinite == "skip", scale=optimizer.sam._scale)
    return model, optimizer


@pytest.mark.parametrize("into", [make, deferred])
@pytest.mark.parametrize("build", [make, deferred])
def test_skipped_steps_are_still_counted_after_a_resumption(build, into):
    model, optimizer = build("skip")
    optimizer.step(closure(model, 1), closure(model))
    model, resumed = into("skip")
    resumed.load_state_dict(optimizer.state_dict())
    assert resumed.sam.skipped == 1
    resumed.step(closure(model, 1), closure(model))
    assert resumed.sam.skipped == 2


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("bad_at", "name"), [(1, "first"), (2, "perturbed")])
def test_deferred_verdict_keeps_the_weights_and_arrives_later(bad_at, name, fused):
    model, optimizer = deferred("raise", fused=fused)
    for _ in range(2):
        optimizer.step(closure(model), closure(model))
    before = weights(model)
    with pytest.raises(NonFiniteError) as caught:
        optimizer.step(closure(model, bad_at), closure(model))
        for _ in range(4):
            optimizer.step(closure(model), closure(model))
    assert (caught.value.pass_name, caught.value.step) == (name, 3)
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_deferred_verdict_can_be_waited_for():
    model, optimizer = deferred("raise")
    for _ in range(2):
        optimizer.step(closure(model), closure(model))
    optimizer.settle()
    optimizer.step(closure(model, 1), closure(model))
    with pytest.raises(NonFiniteError, match="step 3: the first pass"):
        optimizer.settle()
    optimizer.settle()


class Event:
    """Of a device that has done its work after it was asked so many times."""

    def __init__(self, questions):
        self.left = questions

    def query(self):
        self.left -= 1
        return self.left < 0

    def synchronize(self):
        self.left = 0


class SlowGuard(DeferredGuard):
    questions = 0

    def _post(self):
        super()._post()
        self._mail = (self._mail[0], Event(self.questions))


@pytest.mark.parametrize("settled_at", [None, 4])
@pytest.mark.parametrize("bad_step", range(1, 8))
def test_processes_raise_in_the_same_step_however_fast_their_devices(bad_step, settled_at):
    """Were it to each when it asks, one would raise and leave the others waiting in a collective."""
    raised = []
    for questions in (0, 3, 100):
        model, optimizer = make()
        guard = SlowGuard(torch.device("cpu"), skip=False, scale=optimizer.sam._scale, together=True)
        guard.questions = questions
        optimizer.sam._guard = guard
        with pytest.raises(NonFiniteError, match=f"step {bad_step}: the first pass"):
            for number in range(1, 30):
                optimizer.step(closure(model, 1 if number == bad_step else None), closure(model))
                if number == settled_at:
                    optimizer.settle()
        raised.append(number)
    assert raised[0] == raised[1] == raised[2] <= bad_step + 2 * LATENCY + 1


@pytest.mark.parametrize("size", [1, 2])
def test_the_guard_knows_whether_there_are_other_processes(monkeypatch, size):
    class Ranks(Alone):
        pass

    Ranks.size = size
    monkeypatch.setattr(passes, "ranks_of", lambda model: Ranks())
    monkeypatch.setattr(finite, "guard", lambda device, **settings: settings)
    assert make(rule=FixedRadius)[1].sam._guard["together"] == (size > 1)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("at_first", [True, False])
def test_deferred_skip_counts_and_goes_on(fused, at_first):
    model, optimizer = deferred("skip", fused=fused)
    if not at_first:
        optimizer.step(closure(model), closure(model))
    before = weights(model)
    optimizer.step(closure(model, 2), closure(model))
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    for _ in range(3):
        optimizer.step(closure(model), closure(model))
    assert optimizer.sam.skipped == 1
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert any(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert torch.isfinite(optimizer.last.rho)
