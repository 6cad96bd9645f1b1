"""Base optimizers and schedules beside torch's."""

import pytest
import torch
from torch import nn
from transformers import get_linear_schedule_with_warmup

from lets_runner import LETS, SAM
from lets_runner.optim.engine import vector
from lets_runner.optimizers import adamw
from lets_runner.schedules import warmup_linear


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 2)).double()


def test_matrices_decay_and_norms_and_biases_do_not():
    """Against AdamW by the definition, with one group a parameter."""
    ends = []
    for make in (
        lambda params: adamw(params, lr=0.1, weight_decay=0.3, betas=(0.8, 0.9), eps=1e-6),
        lambda params: torch.optim.AdamW(
            [{"params": [p], "weight_decay": 0.3 if p.ndim == 2 else 0.0} for p in params],
            lr=0.1,
            betas=(0.8, 0.9),
            eps=1e-6,
        ),
    ):
        model = network()
        optimizer = make(list(model.parameters()))
        for number in range(5):
            optimizer.zero_grad()
            model(torch.full((3, 4), 0.1 * number, dtype=torch.float64)).square().sum().backward()
            optimizer.step()
        ends.append([p.detach().clone() for p in model.parameters()])
    for ours, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


def test_the_perturbation_is_of_all_groups_together():
    model, seen = network(), []

    def closure():
        seen.append([p.detach().clone() for p in model.parameters()])
        return model(torch.ones(3, 4, dtype=torch.float64)).square().mean()

    rule = LETS(SAM(adamw(model.parameters(), lr=0.01), 0.2, model=model))
    rule.step(closure, closure)
    moved = vector.minus(seen[1], seen[0])
    assert vector.norm(moved).item() == pytest.approx(0.2, rel=1e-12)
    assert all(change.norm() > 0 for change in moved)  # norms and biases too


@pytest.mark.parametrize(("warmup", "total"), [(0, 10), (4, 10), (10, 10), (1, 1)])
def test_the_rate_goes_up_and_down_along_straight_lines(warmup, total):
    optimizer = torch.optim.SGD(network().parameters(), lr=2.0)
    schedule, rates = warmup_linear(optimizer, warmup=warmup, total_steps=total), []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    up = [2 * (step + 1) / (warmup + 1) for step in range(min(warmup, total))]
    down = [2 * (total - step) / (total - warmup) for step in range(warmup, total)]
    assert rates == pytest.approx(up + down)
    assert min(rates) > 0
    assert optimizer.param_groups[0]["lr"] == 0


def test_after_the_warmup_it_is_that_of_transformers():
    pair = [torch.optim.SGD(network().parameters(), lr=1.0) for _ in range(2)]
    ours = warmup_linear(pair[0], warmup=5, total_steps=20)
    theirs = get_linear_schedule_with_warmup(pair[1], 5, 20)
    for step in range(20):
        if step >= 5:
            assert pair[0].param_groups[0]["lr"] == pytest.approx(pair[1].param_groups[0]["lr"])
        for optimizer, schedule in zip(pair, (ours, theirs), strict=True):
            optimizer.step()
            schedule.step()


def test_a_warmup_longer_than_the_training_does_not_end():
    optimizer = torch.optim.SGD(network().parameters(), lr=1.0)
    schedule, rates = warmup_linear(optimizer, warmup=9, total_steps=3), []
    for _ in range(3):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.1, 0.2, 0.3])


def test_refuses_a_negative_warmup():
    with pytest.raises(ValueError, match="warmup=-1: must be at least 0, in steps"):
        warmup_linear(torch.optim.SGD(network().parameters(), lr=1.0), warmup=-1, total_steps=10)
