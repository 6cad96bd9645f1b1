"""Averages of the weights: torch's, measured in place of the weights, and the same to the bit after a resume."""

import json
import signal

import pytest
import torch
from conftest import lets_train, train
from killing import in_child, killed_after_step, state_of
from test_trainer import make, told
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lets_runner.averaging import Averaged, Raw
from lets_runner.run.checkpoint import read_checkpoint, reported

QUICK = ("model.batch_norm=true", "model.width=4", "batch_size=128", "device=cpu", "ema.decay=0.9")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


def test_it_is_torchs_to_the_bit():
    model = network()
    ours, theirs = Averaged(model, 0.8), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for number in range(6):
        optimizer.zero_grad()
        model(torch.randn(8, 4) + number).square().sum().backward()
        optimizer.step()
        ours.update()
        theirs.update_parameters(model)
    expected = theirs.module.state_dict()
    found = ours.model.state_dict()
    assert found.pop("1.num_batches_tracked") == 6
    expected.pop("1.num_batches_tracked")  # an average of counters counts nothing
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert not torch.equal(found["1.running_mean"], model[1].running_mean)
    assert not any(param.requires_grad for param in ours.model.parameters())


def test_what_is_measured_is_the_average_and_training_is_as_without():
    plain = make()
    averaged = make()
    averaged.measured = Averaged(averaged.model, 0.7)
    rows, _ = told(plain)
    assert told(averaged)[0] == rows
    assert torch.equal(plain.model.weight, averaged.model.weight)
    mean = averaged.measured.model
    assert not torch.equal(mean.weight, averaged.model.weight)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(mean(plain.val.x.flatten(0, 1)), plain.val.y.flatten())
    assert averaged.measure(averaged.val)["loss"] == pytest.approx(loss.item())
    assert plain.measure(plain.val)["loss"] != pytest.approx(loss.item(), rel=1e-4)


def test_a_checkpoint_without_the_average_is_refused():
    trainer = make()
    state = trainer.state_dict()
    assert "ema" not in state and isinstance(trainer.measured, Raw)
    trainer.measured = Averaged(trainer.model, 0.7)
    with pytest.raises(ValueError, match="has no average of these weights"):
        trainer.check(state)


@pytest.mark.parametrize("step", [5, 8, 10])  # of 8 an epoch
def test_a_run_that_was_killed_ends_with_the_same_average(tmp_path, monkeypatch, step):
    """Killed outright, and the same command again: the whole state, and every number that is measured of it."""
    words = (*QUICK, "checkpoint.every_steps=5", "test_each_epoch=true")
    whole = train(tmp_path / "whole", *words)
    assert in_child(killed_after_step, tmp_path / "killed", step, words) == -signal.SIGKILL
    killed = tmp_path / "killed" / whole.relative_to(tmp_path / "whole")
    state = read_checkpoint(killed / "checkpoints" / "last.pt")
    assert state["step"] == state["ema"]["updates"] == step
    assert lets_train(monkeypatch, "epochs=2", "progress=false", f"output={tmp_path / 'killed'}", *words) == 0
    assert state_of(killed) == state_of(whole)
    state = read_checkpoint(whole / "checkpoints" / "last.pt")
    assert state["ema"]["updates"] == state["step"] == 16
    assert not torch.equal(state["model"]["0.weight"], state["ema"]["model"]["0.weight"])
    assert not torch.equal(state["model"]["1.running_var"], state["ema"]["model"]["1.running_var"])


def test_a_runs_numbers_are_those_of_the_average(tmp_path):
    run = train(tmp_path / "ema", *QUICK)
    plain = train(tmp_path / "plain", *QUICK[:-1])
    summaries = [json.loads((place / "summary.json").read_text()) for place in (run, plain)]
    assert summaries[0]["measured"] == "average of the weights, decay 0.9" and "measured" not in summaries[1]
    assert summaries[0]["columns"] == summaries[1]["columns"]
    assert summaries[0]["train_loss"] == summaries[1]["train_loss"]
    assert summaries[0]["val_loss"] != summaries[1]["val_loss"]
    assert (run / "steps.csv").read_bytes() == (plain / "steps.csv").read_bytes()
    states = [read_checkpoint(place / "checkpoints" / "last.pt") for place in (run, plain)]
    assert all(torch.equal(states[0]["model"][name], states[1]["model"][name]) for name in states[1]["model"])
    assert reported(states[0]) is states[0]["ema"]["model"] and reported(states[1]) is states[1]["model"]
    assert "ema" not in states[1]


@pytest.mark.parametrize("decay", ["1", "0", "-0.5"])
def test_refuses(tmp_path, monkeypatch, capfd, decay):
    monkeypatch.chdir(tmp_path)
    assert lets_train(monkeypatch, f"ema.decay={decay}") == 2
    assert f"ema.decay={float(decay)}: must lie between 0 and 1, or be null" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
