"""Schedules beside torch's, and the warm-up of any of them, against their definitions."""

import warnings

import pytest
import torch

from lets_runner import build, cli
from lets_runner.config import UserError
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


EVERY = sorted(path.stem for path in (cli.CONF / "schedule").glob("*.yaml"))
WORDS = ["model=mlp", "epochs=3", "optimizer.lr=0.3"]  # of 17 steps


def planned(*words, steps=51):
    """The rates of a whole training as its parts make them, without training; and its schedule."""
    trainer = build.build(cli.compose(*WORDS, *words)[0], torch.device("cpu")).trainer
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing is optimized
        for _ in range(steps):
            found.append(trainer.optimizer.param_groups[0]["lr"])
            trainer.scheduler.step()
    return found, trainer


@pytest.mark.parametrize("schedule", EVERY)
@pytest.mark.parametrize(("words", "steps"), [("schedule.warmup_steps=6", 6), ("schedule.warmup_epochs=0.5", 8)])
def test_every_schedule_can_be_warmed_up(schedule, words, steps):
    plain, _ = planned(f"schedule={schedule}")
    warm, _ = planned(f"schedule={schedule}", words)
    expected = [rate * min(1, (step + 1) / (steps + 1)) for step, rate in enumerate(plain)]
    assert warm == pytest.approx(expected, rel=1e-12)
    assert warm[steps:] == plain[steps:]
    assert warm[0] < plain[0]


def test_a_warmup_goes_on_after_a_resume():
    whole, _ = planned("schedule=cosine", "schedule.warmup_steps=20")
    first, trainer = planned("schedule=cosine", "schedule.warmup_steps=20", steps=11)
    state = {"optimizer": trainer.optimizer.state_dict(), "scheduler": trainer.scheduler.state_dict()}
    _, other = planned("schedule=cosine", "schedule.warmup_steps=20", steps=0)
    other.optimizer.load_state_dict(state["optimizer"])
    other.scheduler.load_state_dict(state["scheduler"])
    rest = []
    for _ in range(40):
        rest.append(other.optimizer.param_groups[0]["lr"])
        other.optimizer.base.step()
        other.scheduler.step()
    assert first + rest == whole


def test_groups_keep_their_shares_in_a_warmup():
    _, trainer = planned("optimizer.layer_decay=0.5", "schedule.warmup_steps=6", steps=3)
    groups = [group["lr"] for group in trainer.optimizer.param_groups]
    assert groups == pytest.approx([groups[0], groups[0] / 2, groups[0] / 4])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["schedule.warmup_epochs=-1"], "schedule.warmup_epochs=-1: must be at least 0"),
        (["schedule.warmup_steps=half"], "schedule.warmup_steps=half: must be a whole number"),
        (["schedule.warmup_steps=2", "schedule.warmup_epochs=1"], "warmup_epochs=1 says it too; leave one of them 0"),
        (["schedule=one_cycle", "optimizer.layer_decay=0.5"], "OneCycleLR gives all weights one rate"),
        (["optimizer.layer_decay=1.5"], "optimizer.layer_decay=1.5: must lie in (0, 1], or be null"),
    ],
)
def test_refuses(words, message):
    with pytest.raises(UserError) as caught:
        build.build(cli.compose(*words)[0], torch.device("cpu"))
    assert message in str(caught.value)
