"""Whatever a tracker does, the run ends as it would have without, and one line says what happened."""

import json
import os
import socket
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import lets_train, train
from listeners import HEARD, heard
from stores import SHORT
from torch import nn

from lets_runner import build, cli, config, trainer
from lets_runner.models import MLP
from lets_runner.report.curves import read_columns
from lets_runner.run.directory import Run
from lets_runner.trackers import Tracker, guard

CONF = cli.CONF
TRACKERS = ("tensorboard", "mlflow", "wandb")


class Dropping(MLP):
    """Draws from torch's own random numbers in every pass."""

    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.1, self.training)


LISTENER = "+logger.mine={_target_: listeners.Listener}"


def deed(moment, deed):
    return [LISTENER, f"+logger.mine.moment={moment}", f"+logger.mine.deed={deed}"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return train(tmp_path_factory.mktemp("plain"), *SHORT)


@contextmanager
def slow():
    """Every record takes a while, so that trackers hear of the run before it ends."""
    real = Run.append
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "append", lambda self, record: (real(self, record), time.sleep(0.1)))
        yield


def same(directory, plain):
    """That the run ended as it would have without trackers."""
    assert (directory / "steps.csv").read_bytes() == (plain / "steps.csv").read_bytes()
    ours, theirs = (read_columns(run / "epochs.csv") for run in (directory, plain))
    assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
    assert json.loads((directory / "summary.json").read_text())["status"] == "finished"
    return True


def test_is_told_everything_in_order_in_one_process(tmp_path, plain):
    directory = train(tmp_path, *SHORT, LISTENER)
    assert same(directory, plain)
    told = heard(directory)
    moments = [moment for moment, _, _ in told]
    assert moments == ["start", *["log"] * (len(moments) - 2), "finish"]
    assert len({process for _, _, process in told} - {os.getpid()}) == 1

    about = told[0][1]
    assert about["directory"] == directory
    assert (about["experiment"], about["name"]) == ("digits-mlp", "horizon_sam/seed=0")
    assert (about["known_as"], about["step"]) == (None, 0)
    assert about["config"]["model"]["width"] == 8
    assert about["config"]["derived"]["total_steps"] == 14

    records = [what for moment, what, _ in told if moment == "log"]
    losses = [row["loss"] for record in records for row in record.steps]
    assert losses == pytest.approx(read_columns(directory / "steps.csv")["loss"])
    epochs = [record.epoch["val_loss"] for record in records if record.epoch]
    assert epochs == pytest.approx(read_columns(directory / "epochs.csv")["val_loss"])
    summary, files = told[-1][1]
    assert summary == json.loads((directory / "summary.json").read_text())
    assert [path.name for path in files] == ["config.yaml", "epochs.csv", "steps.csv", "summary.json", "curves.png"]


@pytest.mark.parametrize("moment", ["start", "log", "finish"])
@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("raise", "OSError: no space left on device"),
        ("exit", "SystemExit: 3"),
        ("die", "its process has ended with code 3"),
    ],
)
def test_one_that_fails_is_told_once_and_left_out(tmp_path, plain, capfd, moment, what, reason):
    directory = train(tmp_path, *SHORT, *deed(moment, what))
    assert same(directory, plain)
    assert capfd.readouterr().err == (
        f"lets-train: warning: logger.mine is left out from here on, and the run goes on without it ({reason})\n"
    )
    moments = [moment for moment, _, _ in heard(directory)]
    assert moments[-1] == moment
    assert moments.count(moment) == 1


@pytest.mark.parametrize("moment", ["start", "log", "finish"])
def test_those_that_hang_cost_three_seconds_together(tmp_path, plain, capfd, moment):
    other = "+logger.other={_target_: listeners.Listener, deed: hang, moment: " + moment + "}"
    directory = train(tmp_path, *SHORT, *deed(moment, "hang"), other)
    assert waited(directory) < 3 + SLOW_MACHINE
    assert same(directory, plain)
    err = capfd.readouterr().err
    assert "logger.mine is left out" in err
    assert "logger.other is left out" in err
    assert err.count("(TimeoutError: no answer for 3.") == err.count("\n") == 2
    processes = {process for _, _, process in heard(directory)}
    assert len(processes) == 2
    assert not any(Path(f"/proc/{process}").exists() for process in processes)


@pytest.mark.parametrize("moment", ["start", "log"])
@pytest.mark.parametrize("what", ["seed and draw", "go away", "change what it is told"])
def test_what_one_does_to_itself_changes_nothing(tmp_path, monkeypatch, capfd, what, moment, dropping):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainer, "MIN_RECORD_SECONDS", 0.0)
    model = "model._target_=test_guard.Dropping"
    directory = train("runs", *SHORT, "epochs=12", model, *deed(moment, what)).absolute()
    assert same(directory, dropping)
    assert capfd.readouterr().err == ""
    [ours, theirs] = (torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (directory, dropping))
    assert all(torch.equal(ours["model"][name], theirs["model"][name]) for name in theirs["model"])
    assert Path.cwd() == tmp_path


@pytest.fixture(scope="module")
def dropping(tmp_path_factory):
    return train(tmp_path_factory.mktemp("dropping"), *SHORT, "epochs=12", "model._target_=test_guard.Dropping")


SLOW_MACHINE = 2  # seconds more than it should be


def waited(directory):
    """Seconds since the last file of a run was written, its trackers' apart."""
    return time.time() - (directory / "curves.png").stat().st_mtime


def test_a_server_that_does_not_answer(tmp_path, plain, capfd):
    """While MLflow is being imported, there is work to wait for: it comes on top of the three seconds."""
    pytest.importorskip("mlflow")
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        uri = f"logger.mlflow.tracking_uri=http://127.0.0.1:{server.getsockname()[1]}"
        directory = train(tmp_path, *SHORT, "logger=mlflow", uri)
    assert waited(directory) < 30
    assert same(directory, plain)
    err = capfd.readouterr().err
    assert "logger.mlflow is left out" in err
    assert err.count("\n") == 1


def test_one_that_has_hung_long_before_the_end_is_not_waited_for(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(Run, "append", lambda *_: time.sleep(1), raising=True)
    monkeypatch.setattr(Run, "best_is_last", False)
    monkeypatch.setattr(
        "lets_runner.run.supervise.draw_curves", lambda directory, _: (directory / "curves.png").touch()
    )
    directory = train(tmp_path, *SHORT, *deed("start", "hang"))  # five seconds at least
    assert waited(directory) < SLOW_MACHINE
    assert "left out" in capfd.readouterr().err


def test_one_that_is_at_work_is_waited_for(tmp_path, capfd):
    words = ["+logger.mine={_target_: listeners.Busy}", "+logger.mine.patience=1"]
    directory = train(tmp_path, *SHORT, *words)
    assert capfd.readouterr().err == ""
    assert (directory / "done").exists()


def test_one_that_is_too_slow_is_left_out_before_it_fills_the_memory(tmp_path, plain, capfd, monkeypatch):
    monkeypatch.setattr(guard, "BACKLOG", 3)
    assert same(train(tmp_path, *SHORT, *deed("start", "hang")), plain)
    err = capfd.readouterr().err
    assert "(TimeoutError: 3 records behind the training)" in err
    assert err.count("\n") == 1


def test_the_others_go_on(tmp_path, plain, capfd):
    broken = "+logger.broken={_target_: listeners.Listener, moment: start}"
    directory = train(tmp_path, *SHORT, broken, LISTENER)
    assert same(directory, plain)
    assert heard(directory)[-1][0] == "finish"
    assert capfd.readouterr().err.count("logger.broken") == 1


def test_one_that_cannot_be_handed_over_is_left_out(tmp_path, plain, capfd):
    words = ["+logger.mine={_target_: listeners.Unpicklable}"]
    assert same(train(tmp_path, *SHORT, *words), plain)
    err = capfd.readouterr().err
    assert "logger.mine is left out" in err
    assert err.count("\n") == 1


def test_a_stopped_run_goes_on_as_what_it_was(tmp_path):
    with slow(), pytest.raises(SystemExit):
        train(tmp_path, *SHORT, "epochs=40", *deed("log", "stop the run"))
    [path] = tmp_path.rglob(HEARD)
    summary, _ = heard(path.parent)[-1][1]
    assert summary["status"] == "interrupted"
    path.unlink()
    directory = train(tmp_path, *SHORT, "epochs=40", LISTENER)
    about = heard(directory)[0][1]
    assert 0 < about["step"] == summary["step"]
    assert about["known_as"] == "number 7"
    assert json.loads((directory / "trackers.json").read_text()) == {"mine": "number 7"}


def test_a_run_that_diverges_is_told(tmp_path):
    with pytest.raises(FloatingPointError):
        train(tmp_path, *SHORT, "optimizer.lr=1e30", LISTENER)
    [path] = tmp_path.rglob(HEARD)
    summary, _ = heard(path.parent)[-1][1]
    assert summary["status"] == "failed"
    assert "pass" in summary["error"]


@pytest.mark.parametrize(
    "overrides", [["logger=tensorboard"], ["logger=[tensorboard,mlflow]"], ["logger=[]"], [LISTENER]]
)
def test_trackers_are_no_part_of_what_a_run_is(overrides):
    (plain, plainly), (tracked, named) = cli.compose(), cli.compose(*overrides)
    assert named == plainly
    assert config.run_directory(tracked, named) == config.run_directory(plain, plainly)
    assert config.to_yaml(tracked).split("\n")[0] == config.to_yaml(plain).split("\n")[0]


def test_a_logger_may_join_a_run_that_was_stopped(tmp_path):
    with slow(), pytest.raises(SystemExit):
        train(tmp_path, *SHORT, "epochs=40", *deed("log", "stop the run"))
    [stopped] = tmp_path.rglob("trackers.json")
    stopped.unlink()
    (stopped.parent / HEARD).unlink()
    assert train(tmp_path, *SHORT, "epochs=40", LISTENER) == stopped.parent
    about = heard(stopped.parent)[0][1]
    assert about["known_as"] is None
    assert about["step"] > 0


@pytest.mark.parametrize("choice", sorted(path.stem for path in (CONF / "logger").glob("*.yaml")))
def test_every_choice_builds(choice):
    if choice != "none":
        pytest.importorskip(choice)
    cfg, _ = cli.compose(f"logger={choice}")
    assert list(cfg.logger) == ([] if choice == "none" else [choice])
    assert all(isinstance(build.make(cfg, f"logger.{key}"), Tracker) for key in cfg.logger)


@pytest.mark.parametrize("choice", TRACKERS)
def test_a_missing_package_is_refused_before_anything_is_made(tmp_path, monkeypatch, capfd, choice):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lets_runner.trackers.tracker.find_spec", lambda package: None)
    assert lets_train(monkeypatch, f"logger={choice}", "data=cifar10", "data.root=/nonexistent") == 2
    err = capfd.readouterr().err
    assert err.startswith(f"lets-train: logger.{choice}: {choice}")
    assert err.endswith(f" not installed: pip install 'lets_runner[{choice}]'\n")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["logger=neptune"], "logger=neptune: there is no such logger; choose one of mlflow, none, tensorboard, wandb"),
        (["logger=[neptune]"], "logger=neptune: there is no such logger"),
        (["logger=mlflow", "logger.mlflow.traking_uri=x"], "did you mean logger.mlflow.tracking_uri?"),
        (["logger=wandb", "logger.wandb.mode=on"], "logger.wandb.mode=on: must be one of offline, online"),
        (["logger=tensorboard", "logger.tensorboard.every_steps=0"], "logger.tensorboard.every_steps=0: must be"),
        (["logger=mlflow", "+logger.mlflow.patience=-1"], "logger.mlflow.patience=-1: must be at least 0"),
        (["logger=mlflow", "logger.mlflow.artefacts=all"], "logger.mlflow.artefacts=all: must be one of none, results"),
        (["+logger.mine=1"], "logger.mine: must be a mapping with a `_target_`"),
        (["+logger.mine={_target_: nowhere.Tracker}"], "logger.mine: Error loading 'nowhere.Tracker'"),
    ],
)
def test_bad_settings_are_one_line(tmp_path, monkeypatch, capfd, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert lets_train(monkeypatch, *arguments) == 2
    err = capfd.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


MINE = """
from lets_runner.trackers import Tracker

class Notebook(Tracker):
    def start(self, directory, **about):
        self.file = open(directory / "notebook.txt", "w")
        return about["name"]

    def log(self, record):
        for step, values in self.points(record):
            print(step, *values, file=self.file)

    def finish(self, summary, files):
        self.file.close()
"""


def test_ones_own_is_one_file_and_one_yaml(tmp_path, monkeypatch):
    (tmp_path / "notebook.py").write_text(MINE)
    (tmp_path / "conf" / "logger").mkdir(parents=True)
    (tmp_path / "conf" / "logger" / "notebook.yaml").write_text("notebook:\n  _target_: notebook.Notebook\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["--config-dir", "conf", "logger=notebook", "epochs=1", "progress=false", "model=mlp"]
    assert lets_train(monkeypatch, *arguments) == 0
    [written] = Path("runs").rglob("notebook.txt")
    lines = written.read_text().splitlines()
    assert lines[0].startswith("10 step/lr step/loss step/val_loss step/hypergradient")
    assert lines[-1].startswith("17 epoch/epoch epoch/lr epoch/train_loss")
