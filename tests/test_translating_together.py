"""Translation by two processes, and in microbatches: parts have unequal token counts, and nothing shows of it."""

import json
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from conftest import grid
from corpus import write_corpus
from test_distributed import directory_of, finish, launch, one_process

from lets_runner.report.curves import read_columns

SMALL = ("model.layers=2", "model.width=16", "model.hidden=16", "model.heads=2", "model.dropout=0.0")
CHOSEN = ("data=iwslt14", "task=translation", "model=transformer_iwslt", "task.beam=2", "progress=false", "epochs=2")
TRAINED = ("optimizer=adamw", "optimizer.lr=0.005", "schedule=inverse_sqrt", "schedule.warmup=5")
METHODS = ("sam", "lets_asam")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    root = write_corpus(tmp_path_factory.mktemp("text"), train=61, valid=13, test=11)
    return (*CHOSEN, f"data.root={root}", "data.merges=40", "data.max_tokens=190", "batch_size=20", *SMALL, *TRAINED)


@pytest.fixture(scope="module")
def alone(words, tmp_path_factory):
    return {
        method: one_process(tmp_path_factory.mktemp(method), *words, f"method={method}", "seed=1") for method in METHODS
    }


def assert_same_run(first, second):
    """Trajectories, measurements, translations and weights to rounding, in float64."""
    for name in ("steps.csv", "epochs.csv"):
        ours, theirs = read_columns(first / name), read_columns(second / name)
        assert list(ours) == list(theirs)
        for column in {*ours} - {"seconds"}:
            assert ours[column] == pytest.approx(theirs[column], rel=1e-6, nan_ok=True), column
    states = [torch.load(folder / "checkpoints" / "last.pt", weights_only=True) for folder in (first, second)]
    for ours, theirs in zip(*(state["model"].values() for state in states), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (first, second)]
    for key in ("test_loss", "test_perplexity", "test_bleu", "test_tokenized_bleu", "val_loss", "rho"):
        assert summaries[0][key] == pytest.approx(summaries[1][key], rel=1e-9), key
    for key in ("gradient_evaluations", "status", "step", "data_identity"):
        assert summaries[0][key] == summaries[1][key]
    assert (first / "hypotheses.txt").read_bytes() == (second / "hypotheses.txt").read_bytes()


def test_training_changes_the_weights_and_ends_with_all_translations(alone):
    for method, directory in alone.items():
        losses = read_columns(directory / "epochs.csv")["val_loss"]
        assert all(later < before for before, later in pairwise(losses)), method
        assert len((directory / "hypotheses.txt").read_text().splitlines()) == 11


@pytest.mark.parametrize(
    ("strategy", "method", "accumulate"),
    grid(
        [("ddp", "sam", 1), ("ddp", "lets_asam", 2), ("fsdp", "lets_asam", 1), ("fsdp", "sam", 2)],
        [("ddp", "lets_asam", 2)],
    ),
)
def test_two_processes_train_as_one(words, alone, tmp_path, strategy, method, accumulate):
    more = (f"distributed.strategy={strategy}", f"method={method}", f"accumulate={accumulate}", "seed=1")
    finish(launch(tmp_path, *words, *more))
    assert_same_run(directory_of(tmp_path), alone[method])


@pytest.mark.parametrize("method", METHODS)
def test_microbatches_change_nothing_but_memory(words, alone, tmp_path, method):
    assert_same_run(one_process(tmp_path, *words, f"method={method}", "seed=1", "accumulate=2"), alone[method])


@pytest.mark.full
def test_a_batch_that_is_too_small_for_its_parts_is_told_once(words, tmp_path):
    _, err = finish(launch(tmp_path / "runs", *words, "data.max_tokens=30", "accumulate=2"), rc=1)
    assert err.count("lets-train: ") == 1
    assert "too few for 4 parts (2 processes x 2 microbatches)" in err
    assert not (tmp_path / "runs").exists()


def test_the_command_that_is_said_to_be_the_same_is(words, alone):
    directory = alone["sam"]
    root = next(word for word in words if word.startswith("data.root=")).removeprefix("data.root=")
    command = [sys.executable, "-m", "sacrebleu", f"{root}/test.en", "-i", directory / "hypotheses.txt", "-tok", "none"]
    done = subprocess.run([*command, "-b", "-w", "8"], capture_output=True, text=True, check=True)
    summary = json.loads((directory / "summary.json").read_text())
    assert float(done.stdout) == pytest.approx(summary["test_tokenized_bleu"], abs=1e-8)
