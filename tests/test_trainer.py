"""The loop itself, on made-up loaders."""

import copy
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from optim.tape import TapeRecorder
from torch import nn

from lets_runner import LETS, SAM, GraphedStep
from lets_runner.optim.engine.finite import DeferredGuard
from lets_runner.tasks import Classification
from lets_runner.trainer import Trainer


class Numbers:
    """A loader of Gaussian blobs that notes which batches were asked for."""

    def __init__(self, batches=5, size=8, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(batches, size, 4, generator=generator)
        self.y = (self.x[..., 0] > 0).long()
        self.asked = []

    def __len__(self):
        return len(self.x)

    def batch(self, number):
        self.asked.append(number)
        return self.x[number % len(self)], self.y[number % len(self)]

    def in_order(self):
        return zip(self.x, self.y, strict=True)


def make(epochs=2, **settings):
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    base = torch.optim.SGD(model.parameters(), lr=settings.pop("lr", 0.1), fused=True)
    optimizer = settings.pop("rule", LETS)(SAM(base, model=model), every=settings.pop("every", 1))
    factor = settings.pop("factor", None)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 10)
    return Trainer(
        model,
        optimizer,
        scheduler=scheduler if factor is None else torch.optim.lr_scheduler.LambdaLR(optimizer, factor),
        task=Classification(),
        train=Numbers(),
        val=Numbers(3, seed=1),
        epochs=epochs,
        autocast=nullcontext,
        device=torch.device("cpu"),
        **settings,
    )


def test_rows_cover_every_step_and_epochs_are_means_of_theirs():
    trainer = make()
    records = list(trainer.records())
    steps = [row for record in records for row in record.steps]
    epochs = [record.epoch for record in records if record.epoch is not None]
    assert [row["step"] for row in steps] == list(range(1, 11))
    assert [row["lr"] for row in steps] == pytest.approx([0.1 * (1 - t / 10) for t in range(10)])
    assert [row["epoch"] for row in epochs] == [1, 2]
    for epoch, rows in zip(epochs, (steps[:5], steps[5:]), strict=True):
        assert epoch["train_loss"] == pytest.approx(sum(row["loss"] for row in rows) / 5)
        assert epoch["gap"] == pytest.approx(epoch["val_loss"] - epoch["train_loss"])
        assert epoch["lr"] == rows[-1]["lr"]
    assert epochs[-1]["rho"] == pytest.approx(trainer.optimizer.rho)
    assert epochs[-1]["gradient_evaluations"] == 30
    with torch.no_grad():
        loss = nn.functional.cross_entropy(trainer.model(trainer.val.x.flatten(0, 1)), trainer.val.y.flatten())
    assert epochs[-1]["val_loss"] == pytest.approx(loss.item())


def test_a_batch_is_drawn_once_a_step_and_a_validation_batch_only_when_used():
    trainer = make(every=2)
    list(trainer.records())
    assert trainer.train.asked == list(range(10))
    assert trainer.val.asked == [0, 1, 2, 3, 4]


def test_asking_twice_within_a_step_means_the_same_validation_batch():
    losses = []

    class Curious(LETS):
        def step(self, train, val):
            with torch.no_grad():
                losses.append((val[0]().item(), val[0]().item()))
            return super().step(train, val)

    trainer = make(rule=Curious)
    list(trainer.records())
    assert trainer.val.asked == list(range(10))
    assert all(first == second for first, second in losses)


def test_accuracy_counts_the_unperturbed_pass():
    trainer = make(epochs=1)
    before = nn.Linear(4, 2)
    before.load_state_dict(trainer.model.state_dict())
    trainer.optimizer.param_groups[0]["lr"] = 0.0
    trainer.scheduler.base_lrs = [0.0]
    [record] = [record for record in trainer.records() if record.epoch]
    right = (before(trainer.train.x.flatten(0, 1)).argmax(1) == trainer.train.y.flatten()).float().mean()
    assert record.epoch["train_accuracy"] == pytest.approx(right.item())


def test_checkpoints_are_due_at_their_steps_and_at_the_end_of_epochs():
    trainer = make(checkpoint_every=3)
    assert [record.step for record in trainer.records() if record.checkpoint] == [3, 5, 6, 9, 10]


@pytest.mark.parametrize("every", [1, 2])
def test_stop_ends_after_the_step_with_a_checkpoint_and_goes_on_from_there(every):
    whole, stopped = make(every=every), make(every=every)
    list(whole.records())
    for record in stopped.records():
        if record.step == 5:
            stopped.stop()
    assert record.checkpoint
    assert record.step in (5, 6)
    other = make(every=every)
    other.load_state_dict(stopped.state_dict())
    list(other.records())
    assert torch.equal(other.model.weight, whole.model.weight)
    assert other.optimizer.rho == whole.optimizer.rho
    assert stopped.val.asked + other.val.asked == whole.val.asked


def test_measuring_leaves_training_mode_and_randomness_alone():
    trainer = make()
    trainer.model.train()
    state = torch.get_rng_state()
    trainer.measure(trainer.val)
    assert trainer.model.training
    assert torch.equal(torch.get_rng_state(), state)


def graphed(epochs=4, *, graphs, **settings):
    """A trainer whose optimizer is as on an accelerator; with `graphs` its steps are recorded and played again."""
    recorder = TapeRecorder()
    if graphs:
        settings["steps"] = partial(GraphedStep, recorder=recorder, warmup=2)
    # Rates that float32 has exactly: graphs read them in it.
    trainer = make(epochs, lr=0.125, factor=lambda step: 1 - step / 64, **settings)
    sam = trainer.optimizer.sam
    sam._guard = DeferredGuard(torch.device("cpu"), skip=False, scale=sam._scale)
    return trainer, recorder


def told(trainer, *, until=None):
    """All rows of steps and epochs, apart from seconds; ends after the epoch `until`."""
    steps, epochs = [], []
    for record in trainer.records():
        steps += record.steps
        if record.epoch is not None:
            epochs.append({key: value for key, value in record.epoch.items() if key != "seconds"})
            if len(epochs) == until:
                break
    return repr(steps), repr(epochs)


@pytest.mark.parametrize("settings", [{}, {"every": 3}, {"parts": 2, "val_parts": 4}], ids=["", "every", "parts"])
def test_rows_and_batches_are_the_same_where_steps_are_graphs(settings):
    (eager, _), (played, recorder) = (graphed(graphs=graphs, **settings) for graphs in (False, True))
    assert told(eager) == told(played)
    assert eager.train.asked == played.train.asked
    assert eager.val.asked == played.val.asked
    assert sum(tape.replays for tape in recorder.tapes) >= 8
    assert played.eager_because is None


def test_a_run_of_graphs_goes_on_within_an_epoch():
    whole, _ = graphed(graphs=True)
    rows = told(whole)
    first, _ = graphed(graphs=True, checkpoint_every=3)
    seen = []
    for record in first.records():
        seen += record.steps
        if record.step == 12:
            break
    state = copy.deepcopy(first.state_dict())
    second, recorder = graphed(graphs=True)
    second.load_state_dict(state)
    steps = [row for record in second.records() for row in record.steps]
    assert repr(seen + steps) == rows[0]
    assert sum(tape.replays for tape in recorder.tapes) >= 2
