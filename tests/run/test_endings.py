"""What has finished stays finished, whoever no longer listens; and what a run says at its end."""

import json
import os
import signal
import subprocess
import sys

import pytest
from conftest import grid, lets_train, train
from killing import SHORT, in_child, state_of

from lets_runner.models import MLP
from lets_runner.run import supervise

WORDS = ("epochs=2", "device=cpu", *SHORT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"), *WORDS)


def started(output, *words, shell="{command}"):
    """`lets-train` in a shell; its exit code, and what came out of it."""
    command = " ".join([sys.executable, "-m", "lets_runner", *words, *WORDS, f"output={output}"])
    done = subprocess.run(
        ["bash", "-c", shell.format(command=command)], capture_output=True, text=True, timeout=240, cwd=output.parent
    )
    return done.returncode, done.stdout, done.stderr


SHELLS = {
    "a reader that has gone": "{command} progress=false | head -0; exit ${{PIPESTATUS[0]}}",
    "a full device": "{command} progress=false > /dev/full",
    "no standard output": "{command} progress=false >&-",
    "a progress bar whose reader has gone": "{command} 2>&1 >/dev/null | head -0; exit ${{PIPESTATUS[0]}}",
    "a progress bar on a full device": "{command} 2> /dev/full",
    "no standard error": "{command} 2>&-",
    "nowhere to speak": "{command} > /dev/full 2> /dev/full",
}


@pytest.mark.parametrize("where", grid(SHELLS, few=[*SHELLS][:4]))
def test_nobody_need_listen(tmp_path, whole, where):
    code, _, err = started(tmp_path / "runs", shell=SHELLS[where])
    [summary] = tmp_path.rglob("summary.json")
    assert state_of(summary.parent) == state_of(whole)
    assert json.loads(summary.read_text())["status"] == "finished"
    assert "Traceback" not in err and "Exception" not in err
    assert (summary.parent / "curves.png").is_file()
    assert code == 0
    if where in ("a full device", "a reader that has gone"):
        assert err.startswith("lets-train: warning: standard output cannot be written (")
        assert "test accuracy" in err
        assert err.count("\n") == 1


def test_a_sweep_need_not_be_listened_to(tmp_path):
    words = ("-m", "seed=0,1", "progress=false")
    code, _, err = started(tmp_path / "runs", *words, shell="{command} | head -0; exit ${{PIPESTATUS[0]}}")
    assert code == 0, err
    assert {json.loads(path.read_text())["status"] for path in tmp_path.rglob("summary.json")} == {"finished"}


@pytest.mark.filterwarnings("always")
def test_a_picture_that_cannot_be_drawn_changes_nothing(tmp_path, whole, monkeypatch, capfd):
    def fails(*_):
        raise RuntimeError("no fonts\nto be had")

    monkeypatch.setattr(supervise, "draw_curves", fails)
    assert lets_train(monkeypatch, *WORDS, "progress=false", f"output={tmp_path}") == 0
    out, err = capfd.readouterr()
    assert out.startswith("test accuracy ")
    assert err == "lets-train: warning: curves.png is not drawn (RuntimeError: no fonts to be had)\n"
    [summary] = tmp_path.rglob("summary.json")
    assert state_of(summary.parent) == state_of(whole)


def test_a_picture_that_is_missing_is_drawn_by_the_next_start(tmp_path):
    directory = train(tmp_path, *SHORT)
    picture = (directory / "curves.png").read_bytes()
    (directory / "curves.png").unlink()
    train(tmp_path, *SHORT)
    assert (directory / "curves.png").read_bytes() == picture


def test_a_kill_while_the_picture_is_written_leaves_no_half(tmp_path):
    def half(self, file, **settings):
        with open(file, "wb") if not hasattr(file, "write") else file as opened:
            opened.write(b"\x89PNG")
            opened.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    def killed(output):
        from matplotlib.figure import Figure

        Figure.savefig = half
        train(output, *SHORT)

    assert in_child(killed, tmp_path) == -signal.SIGKILL
    assert not list(tmp_path.rglob("curves.png"))
    directory = train(tmp_path, *SHORT)
    assert (directory / "curves.png").stat().st_size > 1000
    assert not list(tmp_path.rglob("*.tmp"))


class Unsound(MLP):
    """From its second batch on, or from its first, nothing that it gives is a number."""

    sound = 0
    calls = 0

    def forward(self, x):
        Unsound.calls += self.training
        return super().forward(x) * (1 if Unsound.calls <= self.sound or not self.training else float("nan"))


class UnsoundLater(Unsound):
    sound = 9 * 2  # two passes a step


def skipping(output, name, monkeypatch):
    monkeypatch.setattr(Unsound, "calls", 0)
    words = ["epochs=2", "progress=false", f"output={output}", *SHORT, "method=sam", "sam.nonfinite=skip"]
    return lets_train(monkeypatch, *words, f"model._target_=test_endings.{name}")


def test_a_run_says_how_many_steps_it_skipped(tmp_path, monkeypatch, capfd):
    assert skipping(tmp_path, "UnsoundLater", monkeypatch) == 0
    assert "5 of 14 steps skipped" in capfd.readouterr().out
    [summary] = (json.loads(path.read_text()) for path in tmp_path.rglob("summary.json"))
    assert summary["skipped_steps"] == 5


def test_a_run_that_skipped_all_of_its_steps_has_failed(tmp_path, monkeypatch, capfd):
    for _ in range(2):  # and has again
        assert skipping(tmp_path, "Unsound", monkeypatch) == 1
        out, err = capfd.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert "all 14 steps were skipped" in err
        [summary] = (json.loads(path.read_text()) for path in tmp_path.rglob("summary.json"))
        assert summary["status"] == "failed"
        assert "test_accuracy" not in summary
