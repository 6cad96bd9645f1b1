"""The squared error, and parts of unequal size."""

import pytest
import torch
from torch import nn

from lets_runner import LETS, SAM
from lets_runner.optim.graphs.eager import EagerStep
from lets_runner.tasks import Regression

DRAW = torch.Generator().manual_seed(0)
INPUTS = torch.randn(2, 22, 3, generator=DRAW, dtype=torch.float64)
TARGETS = torch.randn(2, 22, 2, generator=DRAW, dtype=torch.float64)


def test_the_loss_is_the_mean_over_numbers_and_examples():
    task, model = Regression(), nn.Linear(3, 2).double()
    output = task.loss(model, (INPUTS[0], TARGETS[0]))
    errors = (model(INPUTS[0]) - TARGETS[0]).square()
    assert output.loss.item() == pytest.approx(errors.mean().item(), rel=1e-14)
    per_sample = task.loss(model, (INPUTS[0], TARGETS[0]), per_sample=True).loss
    torch.testing.assert_close(per_sample, errors.mean(1), rtol=1e-14, atol=0)
    scores = task.scores({name: total.item() for name, total in output.sums.items()}, output.count)
    assert scores["mse"] == pytest.approx(output.loss.item(), rel=1e-14)


def test_outputs_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"gives \(22, 1\) for targets of \(22, 2\)"):
        Regression().loss(nn.Linear(3, 1).double(), (INPUTS[0], TARGETS[0]))


@pytest.mark.parametrize("rule", [lambda sam: sam, LETS])
def test_unequal_parts_take_the_step_of_the_whole_batch(rule):
    """22 examples in four parts are of 6, 6, 5 and 5."""
    ends = []
    for parts in (1, 4):
        torch.manual_seed(0)
        task, model = Regression(), nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        optimizer = rule(SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), 0.1, model=model))

        def loss(part, task=task, model=model):
            return part.weighted(task.loss(model, part.batch).loss)

        step = EagerStep(optimizer, loss, loss, parts=parts, val_parts=parts, split=task.split)
        losses = [step((INPUTS[0], TARGETS[0]), (INPUTS[1], TARGETS[1])).item() for _ in range(6)]
        ends.append([*losses, optimizer.rho, *torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()])
    assert {len(part.batch[0]) for part in Regression().split((INPUTS[0], TARGETS[0]), 4)} == {5, 6}
    assert ends[1] == pytest.approx(ends[0], rel=1e-11)
