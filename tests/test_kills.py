"""`scripts/kills`: kills that change nothing are counted, and those that do are found."""

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from lets_runner import cli
from lets_runner.run.rows import Table

SCRIPT = Path(__file__).parents[1] / "scripts" / "kills"


def test_a_few():
    done = subprocess.run([sys.executable, SCRIPT, "--kills", "9"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    kills, *_, mismatches, _ = done.stdout.splitlines()[-1].split()
    assert int(kills) >= 9
    assert mismatches == "0"


@pytest.fixture
def kills(monkeypatch):
    loader = SourceFileLoader("kills", str(SCRIPT))
    module = module_from_spec(spec_from_loader("kills", loader))
    monkeypatch.setitem(sys.modules, "kills", module)  # dataclasses ask for it
    loader.exec_module(module)
    monkeypatch.setattr(module, "SETTINGS", module.SETTINGS[:1])
    monkeypatch.setattr(cli, "environment", cli.environment)  # which it replaces
    return module


def test_rows_past_a_checkpoint_that_stay_are_found(kills, monkeypatch, capsys):
    monkeypatch.setattr(Table, "cut", lambda *_: None)
    assert kills.run(20) > 0
    assert "steps.csv" in capsys.readouterr().out


def test_what_is_left_lying_is_found(kills, monkeypatch):
    from lets_runner.run.directory import Run

    monkeypatch.setattr(Run, "_clear", lambda self: (self.directory / "scrap").touch() if self.resumes else None)
    assert kills.run(10) > 0


def test_rows_of_unequal_length_are_compared_too(kills, tmp_path):
    """A kill amid a row, and a row behind it, make a line that is longer than the header."""
    path = tmp_path / "steps.csv"
    found = []
    for text in ("step,loss\n1,0.5\n2,0.25\n", "step,loss\n1,0.52,0.25\n", "step,loss\n1,0.5\n2\n"):
        path.write_text(text)
        found.append(kills.columns(path))
    assert found[0] == [("step", "1", "2"), ("loss", "0.5", "0.25"), ("",)]
    assert found[0] != found[1] != found[2] != found[0]
