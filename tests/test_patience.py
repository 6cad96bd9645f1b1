"""Early stopping: after how many epochs, what is written down of it, and that a resumed run decides the same."""

import json
import signal

import pytest
from conftest import lets_train, train
from killing import in_child, killed_after_step, state_of

from lets_runner.columns import Column
from lets_runner.patience import Patience
from lets_runner.report.curves import read_columns

# A rate so high that validation soon gets no better.
WORDS = ("model=mlp", "model.width=8", "batch_size=256", "method=erm", "optimizer.lr=1.5", "schedule=constant")


def see(values, epochs, **settings):
    patience = Patience(Column("score", **settings), epochs)
    seen = []
    for value in values:
        patience.see(value)
        seen.append(patience.is_out)
    return seen


def test_it_is_out_after_so_many_epochs_without_a_better_one():
    assert see([1, 2, 2, 1, 3, 3, 3], 2) == [False, False, False, True, False, False, True]
    assert see([1, 2, 1, 2], None) == [False] * 4
    assert see([3, 2, 2, 2.5], 2, better="lower") == [False, False, False, True]
    assert see([float("nan"), float("nan"), 1.0], 3) == [False] * 3
    assert see([1.0, float("nan"), float("nan")], 2) == [False, False, True]


def first_out(directory, patience):
    """From epochs.csv alone, the epoch after which there is nothing to wait for."""
    scores, best = read_columns(directory / "epochs.csv")["val_accuracy"], 0
    for place, score in enumerate(scores):
        best = place if score > scores[best] else best
        if place - best >= patience:
            return place + 1
    return None


def test_a_run_ends_early_and_says_so(tmp_path, capfd):
    whole = train(tmp_path / "whole", *WORDS, "epochs=40")
    expected = first_out(whole, 3)
    assert expected is not None and expected < 40
    capfd.readouterr()
    run = train(tmp_path / "early", *WORDS, "epochs=40", "early_stopping.patience=3")
    assert f", stopped early after epoch {expected}, 3 after the best" in capfd.readouterr().out
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["epochs"]) == ("finished", expected)
    best = max(read_columns(run / "epochs.csv")["val_accuracy"])
    early = summary["stopped_early"]
    assert (early["by"], early["patience"]) == ("val_accuracy", 3) and early["best"] == pytest.approx(best)
    assert read_columns(run / "epochs.csv")["val_loss"] == read_columns(whole / "epochs.csv")["val_loss"][:expected]
    assert summary["test_accuracy"] > 0
    train(tmp_path / "early", *WORDS, "epochs=40", "early_stopping.patience=3")
    assert capfd.readouterr().out.startswith("already finished: ")


@pytest.mark.parametrize("back", [0, 1, 2])
def test_a_resumed_run_decides_the_same(tmp_path, back):
    """Killed before its last epochs, or when all that was left was to measure."""
    words = (*WORDS, "epochs=40", "early_stopping.patience=3")
    whole = train(tmp_path / "whole", *words)
    step = json.loads((whole / "summary.json").read_text())["step"]
    assert in_child(killed_after_step, tmp_path / "killed", step - 4 * back, words) == -signal.SIGKILL  # 4 an epoch
    killed = train(tmp_path / "killed", *words)
    assert state_of(killed) == state_of(whole)
    assert json.loads((killed / "summary.json").read_text())["stopped_early"]["patience"] == 3


def test_a_run_that_is_not_stopped_early_says_nothing_of_it(tmp_path):
    run = train(tmp_path, *WORDS, "early_stopping.patience=3", "epochs=2")
    assert "stopped_early" not in json.loads((run / "summary.json").read_text())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["early_stopping.patience=0"], "early_stopping.patience=0: must be at least 1, or null"),
        (
            ["early_stopping.patience=2", "data.val_fraction=0", "method=sam"],
            "early_stopping.patience=2: there are no validation examples to go by",
        ),
    ],
)
def test_refuses(tmp_path, monkeypatch, capfd, words, message):
    monkeypatch.chdir(tmp_path)
    assert lets_train(monkeypatch, *words) == 2
    assert message in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
