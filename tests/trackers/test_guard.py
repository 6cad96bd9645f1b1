"""Whatever a tracker does, the run ends as it would have without, and one line says what happened."""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import ClassVar

import pytest
from conftest import lets_train, train
from stores import SHORT

from lets_runner import build, cli, config
from lets_runner.report.curves import read_columns
from lets_runner.trackers import Tracker, guard

CONF = cli.CONF
TRACKERS = ("tensorboard", "mlflow", "wandb")


class Listener(Tracker):
    """Writes down what it is told, and at `moment` does `deed`."""

    told: ClassVar[list] = []  # of the one that was made last
    threads: ClassVar[set] = set()
    released = threading.Event()

    def __init__(self, *, moment="", deed="raise", **settings):
        super().__init__(**settings)
        self.moment, self.deed = moment, deed
        Listener.told, Listener.threads = [], set()
        Listener.released.clear()

    def start(self, directory, **about):
        return self._hear("start", {"directory": directory, **about}) or "number 7"

    def log(self, record):
        self._hear("log", record)

    def finish(self, summary, files):
        self._hear("finish", (summary, files))

    def _hear(self, moment, what):
        Listener.told.append((moment, what))
        Listener.threads.add(threading.current_thread())
        if moment == self.moment:
            match self.deed:
                case "raise":
                    raise OSError("no space left\non device")
                case "exit":
                    sys.exit(3)
                case "hang":
                    Listener.released.wait(30)
                case "stop the run":
                    self.moment = ""  # a second signal is not waited for
                    os.kill(os.getpid(), signal.SIGTERM)


LISTENER = "+logger.mine={_target_: test_guard.Listener}"


def deed(moment, deed):
    return [LISTENER, f"+logger.mine.moment={moment}", f"+logger.mine.deed={deed}"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return train(tmp_path_factory.mktemp("plain"), *SHORT)


@pytest.fixture
def _impatient(monkeypatch):
    for name in ("PATIENCE", "HURRY"):
        monkeypatch.setattr(guard, name, 0.3)
    yield
    Listener.released.set()


def same(directory, plain):
    """That the run ended as it would have without trackers."""
    assert (directory / "steps.csv").read_bytes() == (plain / "steps.csv").read_bytes()
    ours, theirs = (read_columns(run / "epochs.csv") for run in (directory, plain))
    assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
    assert json.loads((directory / "summary.json").read_text())["status"] == "finished"
    return True


def test_is_told_everything_in_order_in_one_thread(tmp_path, plain):
    directory = train(tmp_path, *SHORT, LISTENER)
    assert same(directory, plain)
    moments = [moment for moment, _ in Listener.told]
    assert moments == ["start", *["log"] * (len(moments) - 2), "finish"]
    assert len(Listener.threads) == 1
    assert threading.main_thread() not in Listener.threads

    about = Listener.told[0][1]
    assert about["directory"] == directory
    assert (about["experiment"], about["name"]) == ("digits-mlp", "lets_sam/seed=0")
    assert (about["known_as"], about["step"]) == (None, 0)
    assert about["config"]["model"]["width"] == 8
    assert about["config"]["derived"]["total_steps"] == 14

    records = [what for moment, what in Listener.told if moment == "log"]
    losses = [row["loss"] for record in records for row in record.steps]
    assert losses == pytest.approx(read_columns(directory / "steps.csv")["loss"])
    epochs = [record.epoch["val_loss"] for record in records if record.epoch]
    assert epochs == pytest.approx(read_columns(directory / "epochs.csv")["val_loss"])
    summary, files = Listener.told[-1][1]
    assert summary == json.loads((directory / "summary.json").read_text())
    assert [path.name for path in files] == ["config.yaml", "epochs.csv", "steps.csv", "summary.json", "curves.png"]


@pytest.mark.parametrize("moment", ["start", "log", "finish"])
@pytest.mark.parametrize(("what", "reason"), [("raise", "OSError: no space left on device"), ("exit", "SystemExit: 3")])
def test_one_that_fails_is_told_once_and_left_out(tmp_path, plain, capfd, moment, what, reason):
    directory = train(tmp_path, *SHORT, *deed(moment, what))
    assert same(directory, plain)
    assert capfd.readouterr().err == (
        f"lets-train: warning: logger.mine is left out from here on, and the run goes on without it ({reason})\n"
    )
    assert Listener.told[-1][0] == moment
    assert [heard for heard, _ in Listener.told].count(moment) == 1


@pytest.mark.parametrize("moment", ["start", "log", "finish"])
@pytest.mark.usefixtures("_impatient")
def test_one_that_hangs_is_not_waited_for(tmp_path, plain, capfd, moment):
    directory = train(tmp_path, *SHORT, *deed(moment, "hang"))
    assert same(directory, plain)
    err = capfd.readouterr().err
    assert "logger.mine is left out" in err
    assert "(TimeoutError: not ready 0.3 s after the end of training)" in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("_impatient")
def test_one_that_is_too_slow_is_left_out_before_it_fills_the_memory(tmp_path, plain, capfd, monkeypatch):
    monkeypatch.setattr(guard, "BACKLOG", 3)
    assert same(train(tmp_path, *SHORT, *deed("log", "hang")), plain)
    err = capfd.readouterr().err
    assert "(TimeoutError: 3 records behind the training)" in err
    assert err.count("\n") == 1


def test_the_others_go_on(tmp_path, plain, capfd):
    broken = "+logger.broken={_target_: test_guard.Listener, moment: start}"
    assert same(train(tmp_path, *SHORT, broken, LISTENER), plain)
    assert Listener.told[-1][0] == "finish"
    assert capfd.readouterr().err.count("logger.broken") == 1


def test_a_stopped_run_goes_on_as_what_it_was(tmp_path, plain):
    with pytest.raises(SystemExit):
        train(tmp_path, *SHORT, "epochs=40", *deed("log", "stop the run"))
    assert Listener.told[-1][1][0]["status"] == "interrupted"
    stopped_at = Listener.told[-1][1][0]["step"]
    directory = train(tmp_path, *SHORT, "epochs=40", LISTENER)
    assert 0 < Listener.told[0][1]["step"] == stopped_at
    assert Listener.told[0][1]["known_as"] == "number 7"
    assert json.loads((directory / "trackers.json").read_text()) == {"mine": "number 7"}


def test_a_run_that_diverges_is_told(tmp_path):
    with pytest.raises(FloatingPointError):
        train(tmp_path, *SHORT, "optimizer.lr=1e30", LISTENER)
    summary, _ = Listener.told[-1][1]
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
    with pytest.raises(SystemExit):
        train(tmp_path, *SHORT, "epochs=40", *deed("log", "stop the run"))
    [stopped] = tmp_path.rglob("trackers.json")
    stopped.unlink()
    assert train(tmp_path, *SHORT, "epochs=40", LISTENER) == stopped.parent
    assert Listener.told[0][1]["known_as"] is None
    assert Listener.told[0][1]["step"] > 0


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
        (["logger=wandb", "logger.wandb.mode=on"], "logger.wandb.mode=on: must be offline or online"),
        (["logger=tensorboard", "logger.tensorboard.every_steps=0"], "logger.tensorboard.every_steps=0: must be"),
        (["logger=mlflow", "logger.mlflow.artefacts=all"], "logger.mlflow.artefacts=all: must be one of none, results"),
        (["+logger.mine=1"], "logger.mine: "),
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
    assert lines[0].startswith("10 step/lr step/loss step/val_loss step/gap")
    assert lines[-1].startswith("17 epoch/epoch epoch/lr epoch/train_loss")
