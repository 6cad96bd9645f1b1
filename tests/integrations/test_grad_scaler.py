"""torch's GradScaler, and optimizers whose weights moved: harm that is told instead of done."""

import pytest
import torch
from torch import nn

from lets_runner import LETS, SAM


def make(rule):
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), model=model)
    return model, rule(sam)


@pytest.mark.parametrize("rule", [lambda sam: sam, LETS])
def test_a_scaler_that_is_on_is_refused_and_nothing_moves(rule):
    model, optimizer = make(rule)
    before = model.weight.clone()
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(()))  # or it says that nothing has been scaled
    with pytest.raises(TypeError, match=r"loss_scale='dynamic'") as told:
        scaler.step(optimizer, lambda: scaler.scale(model(torch.ones(3, 4)).square().mean()))
    assert "\n" not in str(told.value)
    assert torch.equal(model.weight, before)


def test_a_scaler_that_is_off_steps():
    model, optimizer = make(LETS)
    before = model.weight.clone()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    scaler.step(optimizer, *2 * [lambda: scaler.scale(model(torch.ones(3, 4)).square().mean())])
    assert not torch.equal(model.weight, before)


def test_closure_is_another_name_for_train():
    (one, first), (other, second) = make(LETS), make(LETS)
    first.step(lambda: one(torch.ones(3, 4)).square().mean(), lambda: one(torch.eye(4)).square().mean())
    second.step(
        closure=lambda: other(torch.ones(3, 4)).square().mean(), val=lambda: other(torch.eye(4)).square().mean()
    )
    assert torch.equal(one.weight, other.weight)
    with pytest.raises(TypeError, match="needs a closure that returns the loss"):
        first.step()
    with pytest.raises(TypeError, match="two names of one argument"):
        first.step(lambda: one.weight.sum(), closure=lambda: one.weight.sum())


def test_weights_that_moved_are_noticed(monkeypatch):
    model, optimizer = make(lambda sam: sam)
    monkeypatch.setattr(SAM, "device", torch.device("meta"))  # stands for any other
    with pytest.raises(ValueError, match="moved from cpu to meta since SAM was built: move the model first"):
        optimizer.step(lambda: model(torch.ones(3, 4)).square().mean())
