"""Schedules beside torch's, against their definitions."""

import pytest
import torch

from lets_runner.schedules import inverse_sqrt


def rates(steps, **settings):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    schedule, found = inverse_sqrt(optimizer, **settings), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_inverse_sqrt_rises_along_a_line_and_falls_with_the_root():
    """Vaswani et al.'s min(step^-0.5, step · warmup^-1.5), scaled to its maximum, for steps from 1."""
    expected = [0.5 * min(n**-0.5, n * 40**-1.5) / 40**-0.5 for n in range(1, 201)]
    assert rates(200, warmup=40) == pytest.approx(expected, rel=1e-12)
    assert max(expected) == expected[39] and min(expected) > 0
    assert rates(3, warmup=1) == pytest.approx([0.5, 0.5 / 2**0.5, 0.5 / 3**0.5])
