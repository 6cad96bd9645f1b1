"""The run directory: files, checkpoints, resuming. A killed run must end like one that was never killed."""

import json
import math
import multiprocessing
import os
import pickle
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import grid, train, write_imagenet
from killing import FORK, SHORT, in_child, killed_after_step, killed_at, state_of

from lets_runner.cli import CONF
from lets_runner.columns import Column, Columns
from lets_runner.report.curves import read_columns
from lets_runner.run import directory
from lets_runner.run.checkpoint import read_checkpoint
from lets_runner.run.directory import Run
from lets_runner.trainer import Record

VARIANTS = sorted(path.stem for path in (CONF / "sam").glob("*.yaml"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"), *SHORT)


MOMENTS = {"replace": range(1, 23, 2), "fsync": range(1, 60, 7)}


@pytest.mark.parametrize(
    ("name", "after"), grid([(name, after) for name in MOMENTS for after in (False, True)], few=[("replace", True)])
)
def test_a_kill_around_every_write_of_a_checkpoint_changes_nothing(tmp_path, uninterrupted, name, after):
    kills = 0
    for moment in MOMENTS[name]:
        output = tmp_path / str(moment)
        code = in_child(killed_at, output, name, moment, after)
        assert code in (0, -signal.SIGKILL)
        kills += code != 0
        directory = train(output, *SHORT)
        assert state_of(directory) == state_of(uninterrupted), moment
    assert kills >= 5


def test_a_kill_in_the_middle_of_a_checkpoint_file_changes_nothing(tmp_path, uninterrupted):
    def half_written(output):
        calls = 0

        def write(path, write, **options):
            nonlocal calls
            calls += path.suffix == ".pt"
            real(path, partial(half, write) if calls == 4 else write, **options)

        def half(write, file):
            write(file)
            file.truncate(file.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)

        real, directory.write_whole = directory.write_whole, write
        train(output, *SHORT)

    assert in_child(half_written, tmp_path) == -signal.SIGKILL
    assert state_of(train(tmp_path, *SHORT)) == state_of(uninterrupted)


@pytest.mark.parametrize("method", grid(["lets_sam", "gm_asam"], few=["gm_asam"]))
def test_kills_at_any_time_change_nothing(tmp_path, method):
    """SIGKILL after a random while, again and again, until the run gets through."""
    settings = (f"method={method}", "epochs=6", "model.batch_norm=true", "checkpoint.every_steps=7")
    whole = train(tmp_path / "whole", *settings)
    kills = 0
    for attempt in range(60):
        child = FORK.Process(target=train, args=(tmp_path / "killed", *settings))
        child.start()
        child.join(0.3 + 0.1 * (attempt % 5) + 0.003 * attempt**2)  # longer in the end, for machines that are busy
        if child.is_alive():
            child.kill()
            child.join()
            kills += 1
        elif child.exitcode == 0:
            break
    assert kills >= 2
    [directory] = (path.parent for path in (tmp_path / "killed").rglob("summary.json"))
    assert state_of(directory) == state_of(whole)


@pytest.mark.parametrize("sam", grid(VARIANTS, few=["sam", "ae_looksam", "vasso"]))
def test_every_variant_resumes_within_an_epoch_bit_for_bit(tmp_path, sam):
    """Stopped after a checkpoint in the middle of the second epoch, as by a kill, and started again."""
    radius = "fixed" if sam in ("none", "le_sam", "momentum_sam", "sampa") else "lets"
    settings = (f"sam={sam}", f"radius={radius}", "epochs=3", "checkpoint.every_steps=5", "model.width=4")
    settings += ("model.batch_norm=true",) if sam == "sam_on" else ()
    whole = train(tmp_path / "whole", *settings)
    assert in_child(killed_after_step, tmp_path / "killed", 25, settings) == -signal.SIGKILL
    [last] = (tmp_path / "killed").rglob("last.pt")
    assert torch.load(last, weights_only=True)["step"] == 25  # 17 steps an epoch
    assert state_of(train(tmp_path / "killed", *settings)) == state_of(whole)


@pytest.mark.parametrize(
    ("sam", "low", "high"), [("looksam", 1.1, 1.12), ("rst", 1.35, 1.65), ("ae_sam", 1.05, 1.95), ("sam", 2, 2)]
)
def test_a_run_says_how_many_gradients_it_took(tmp_path, sam, low, high):
    directory = train(tmp_path, f"sam={sam}", "radius=fixed", "epochs=6")
    steps, epochs = read_columns(directory / "steps.csv"), read_columns(directory / "epochs.csv")
    summary = json.loads((directory / "summary.json").read_text())
    perturbed = sum(math.isfinite(rho) for rho in steps["rho"])
    assert summary["gradient_evaluations"] == epochs["gradient_evaluations"][-1] == len(steps["rho"]) + perturbed
    assert summary["perturbed_share"] == pytest.approx(perturbed / len(steps["rho"]))
    assert low <= summary["gradient_evaluations"] / summary["step"] <= high


@pytest.mark.parametrize("signal_number", grid([signal.SIGTERM, signal.SIGINT], few=[signal.SIGINT]))
def test_a_signal_saves_within_the_epoch_and_the_same_command_goes_on(tmp_path, signal_number, capfd):
    settings = ("epochs=8", "batch_size=16")
    whole = train(tmp_path / "whole", *settings)
    child = FORK.Process(target=train, args=(tmp_path / "stopped", *settings))
    child.start()
    deadline = time.monotonic() + 60
    while not list((tmp_path / "stopped").rglob("steps.csv")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal_number)
    child.join(60)
    assert child.exitcode == 128 + signal_number
    [directory] = (path.parent for path in (tmp_path / "stopped").rglob("summary.json"))
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert 0 < summary["step"] < 8 * 70
    assert torch.load(directory / "checkpoints" / "last.pt", weights_only=True)["step"] == summary["step"]
    assert "the same command goes on" in capfd.readouterr().out
    train(tmp_path / "stopped", *settings)
    assert state_of(directory) == state_of(whole)


def test_images_read_by_workers_go_on_bit_for_bit_and_the_workers_end(tmp_path, monkeypatch):
    """Stopped by an exception within the second epoch, in a run that needs a validation batch every second step."""
    root = write_imagenet(tmp_path / "images")
    settings = ("data=imagenet", f"data.root={root}", "data.classes=3", "data.size=16", "data.workers=1")
    settings += (
        "batch_size=4",
        "model.width=4",
        "radius.every=2",
        "data.val_fraction=0.25",
        "checkpoint.every_steps=1",
    )
    whole = train(tmp_path / "whole", *settings)
    real = Run.save

    def save(self, state, **options):
        real(self, state, **options)
        if state["step"] == 6:  # 4 steps an epoch
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", save)
        with pytest.raises(KeyboardInterrupt) as caught:
            train(tmp_path / "stopped", *settings)
    assert multiprocessing.active_children() == []  # though a sweep, like this, may keep the error and all it refers to
    assert caught.type is KeyboardInterrupt
    [last] = (tmp_path / "stopped").rglob("last.pt")
    checkpoint = torch.load(last, weights_only=True)
    assert (checkpoint["step"], checkpoint["val_batches"]) == (6, 3)
    assert state_of(train(tmp_path / "stopped", *settings)) == state_of(whole)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "other"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, uninterrupted, damage):
    in_child(killed_at, tmp_path, "replace", 16, True)
    [last] = tmp_path.rglob("last.pt")
    content = last.read_bytes()
    last.write_bytes({"truncated": content[:-100], "garbage": b"garbage" * 500, "empty": b""}.get(damage, b""))
    if damage == "other":
        torch.save({"step": "seven"}, last)
    with pytest.warns(UserWarning, match=r"last\.pt cannot be read"):
        directory = train(tmp_path, *SHORT)
    assert state_of(directory) == state_of(uninterrupted)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_malicious_checkpoint_is_refused_and_runs_no_code(tmp_path, uninterrupted):
    mark = tmp_path / "exploded"
    in_child(killed_at, tmp_path, "replace", 16, True)
    [last] = tmp_path.rglob("last.pt")
    for write in (
        lambda: last.write_bytes(pickle.dumps(Bomb(mark))),
        lambda: torch.save({"step": 3, "model": Bomb(mark)}, last),
    ):
        write()
        with pytest.raises(ValueError, match=r"last\.pt cannot be read"):
            read_checkpoint(last)
    assert not mark.exists()
    with pytest.warns(UserWarning, match=r"last\.pt cannot be read"):
        directory = train(tmp_path, *SHORT)
    assert not mark.exists()
    assert state_of(directory) == state_of(uninterrupted)


def test_a_finished_run_says_so_and_touches_nothing(tmp_path, capsys):
    directory = train(tmp_path)
    files = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    capsys.readouterr()
    train(tmp_path)
    assert capsys.readouterr().out.startswith("already finished: test accuracy ")
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == files


def test_every_file_is_there_with_its_columns_and_real_numbers(tmp_path):
    directory = train(tmp_path, "method=lets_sam", "test_each_epoch=true")
    assert {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()} == {
        "config.yaml",
        "inputs.json",
        "epochs.csv",
        "steps.csv",
        "summary.json",
        "curves.png",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
        "checkpoints/previous.pt",
    }
    header = (directory / "epochs.csv").read_text().splitlines()[0]
    assert header == (
        "epoch,step,lr,train_loss,train_accuracy,val_loss,val_accuracy,test_loss,test_accuracy,"
        "gap,rho,gradient_evaluations,seconds"
    )
    assert (directory / "steps.csv").read_text().splitlines()[0] == (
        "step,loss,val_loss,gap,hypergradient,rho,gradient_norm,lr"
    )
    steps, epochs = read_columns(directory / "steps.csv"), read_columns(directory / "epochs.csv")
    assert steps["step"] == list(range(1, 35))
    assert epochs["step"] == [17, 34]
    assert math.isnan(steps["gap"][0])  # with `next` the first step has nothing to complete
    assert all(math.isfinite(value) for column in steps.values() for value in column[1:])
    assert all(math.isfinite(value) for column in epochs.values() for value in column)
    assert epochs["gradient_evaluations"] == [51, 102]
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["method"] == "lets_sam"
    assert summary["test_accuracy"] == pytest.approx(epochs["test_accuracy"][-1])
    assert all(summary[key] is not None for key in summary if key not in ("error", "git_commit"))
    assert {"torch", "python", "lets_runner"} <= set(summary["versions"])


def test_plain_sgd_has_no_radius_to_write(tmp_path):
    directory = train(tmp_path, "method=erm")
    steps, epochs = read_columns(directory / "steps.csv"), read_columns(directory / "epochs.csv")
    assert all(math.isnan(value) for value in steps["rho"] + steps["val_loss"] + epochs["rho"])
    assert epochs["gradient_evaluations"] == [17, 34]
    assert json.loads((directory / "summary.json").read_text())["perturbed_share"] == 0


def test_without_validation_a_fixed_radius_trains(tmp_path):
    directory = train(tmp_path, "method=sam", "data.val_fraction=0")
    assert all(math.isnan(value) for value in read_columns(directory / "epochs.csv")["val_accuracy"])
    assert not (directory / "checkpoints" / "best.pt").exists()


def test_a_run_that_diverges_says_where_and_keeps_its_checkpoint(tmp_path):
    from lets_runner import NonFiniteError

    settings = (
        "optimizer.lr=30",
        "epochs=20",
        "schedule=constant",
        "model=mlp",
        "checkpoint.every_steps=1",
        "method=sam",
    )
    with pytest.raises(NonFiniteError) as caught:
        train(tmp_path, *settings)
    [directory] = (path.parent for path in tmp_path.rglob("summary.json"))
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert f"step {caught.value.step}: the {caught.value.pass_name} pass" in summary["error"]
    assert "rho = 0.05" in summary["error"]
    assert "learning rate" in summary["error"]
    checkpoint = torch.load(directory / "checkpoints" / "last.pt", weights_only=True)
    assert checkpoint["step"] == caught.value.step - 1 > 0
    assert all(torch.isfinite(value).all() for value in checkpoint["model"].values())
    assert read_columns(directory / "steps.csv")["step"][-1] == caught.value.step - 1


def test_two_processes_do_not_share_a_directory(tmp_path):
    run = Run(tmp_path / "run", "a: 1\n")
    run.open()
    with run, pytest.raises(BlockingIOError, match="another process"):
        Run(tmp_path / "run", "a: 1\n").open()
    with pytest.raises(ValueError, match="another configuration"):
        Run(tmp_path / "run", "a: 2\n").open()


def test_what_is_no_part_of_the_configuration_may_differ_on_resuming(tmp_path, uninterrupted):
    in_child(killed_at, tmp_path, "replace", 16, True)
    absolute = train(tmp_path.absolute(), *SHORT, "progress=true")
    assert state_of(absolute) == state_of(uninterrupted)


def test_best_is_the_first_epoch_of_the_highest_validation_accuracy(tmp_path):
    assert chosen(tmp_path, Column("accuracy", "%"), [0.5, 0.7, 0.7, 0.6, 0.8]) == [1, 2, 5]


def test_best_is_the_lowest_where_less_is_better(tmp_path):
    assert chosen(tmp_path, Column("mse", better="lower"), [0.5, math.nan, 0.7, 0.4, 0.4, 0.6, 0.3]) == [1, 4, 7]


def chosen(directory, column, values):
    """The epochs that are the best when they come, by this column on validation."""
    run = Run(directory, "", columns=Columns((column,), column.name))
    row, epochs = dict.fromkeys(run.epochs.columns, 0.0), []
    for epoch, value in enumerate(values, 1):
        run.append(Record([], {**row, "epoch": epoch, f"val_{column.name}": value}, epoch, checkpoint=True))
        if run.best_is_last:
            epochs.append(epoch)
    return epochs


@pytest.mark.parametrize("name", ["steps.csv", "epochs.csv"])
def test_rows_never_go_below_the_header_of_others(tmp_path, name):
    (tmp_path / name).write_text("epoch,step,lr,seconds\n1,10,0.1,2\n")
    with pytest.raises(ValueError, match=rf"{name}: .* other columns"):
        Run(tmp_path, "a: 1\n").open()
    assert (tmp_path / name).read_text() == "epoch,step,lr,seconds\n1,10,0.1,2\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is the process's")
def test_peak_memory_is_that_of_the_run_alone(tmp_path):
    """In one process, as in a sweep, after something large."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    child = FORK.Process(target=_train_after_two_gibibytes, args=(tmp_path,))
    child.start()
    child.join(60)
    [summary] = (json.loads(path.read_text()) for path in tmp_path.rglob("summary.json"))
    assert 2**26 < summary["peak_memory"] < resident + 2**30


def _train_after_two_gibibytes(output):
    torch.ones(2**29)
    train(output, *SHORT)
