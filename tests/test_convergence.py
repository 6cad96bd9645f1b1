"""`scripts/convergence.py`: slopes of known lines, and a training of every method."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "convergence.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("convergence", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_slope_is_that_of_the_longest_trainings(script):
    squares = [steps**-0.7 for steps in script.LENGTHS]
    squares[0] = 100.0  # before the line begins
    assert script.slope(squares) == pytest.approx(-0.7)


def test_the_page_of_methods_has_what_the_script_prints(script):
    import csv

    lines = (script.DOCS / "runs.csv").read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(lines))
    assert script.table(rows) in (SCRIPT.parents[1] / "docs" / "methods.md").read_text(encoding="utf-8")
    assert len(script.draw(rows).axes[0].lines) == len(script.METHODS) + 1


def test_every_method_trains_and_longer_trainings_come_closer(script):
    for make in script.METHODS.values():
        (short, _), (longer, _) = script.train(make, 16, 0), script.train(make, 256, 0)
        assert longer < short / 2
