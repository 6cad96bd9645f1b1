"""The benchmarks run and print what they promise; how fast anything is, they are not asked here."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=200
    )
    return done.stdout.splitlines()


def test_a_step_has_a_row_for_every_contender_and_memory_in_multiples_of_the_parameters():
    lines = run("benchmarks.step", "--model", "small", "--rounds", "2", "--batch-size", "8", "--device", "cpu")
    cells = {line.split("|")[1].strip(): line.split("|")[2:] for line in lines if line.startswith("| ")}
    assert {"SGD", "SAM", "ASAM", "LETS", "LETS, every=10", "gap matching"} <= set(cells)
    assert float(cells["SGD"][0]) == 1
    assert float(cells["SAM"][2]) == 1
    assert float(cells["LETS"][0]) > 1
    # SAM keeps its first gradient and a copy of the weights; LETS the response and a change of gradient too.
    assert 1.9 < float(cells["SAM"][4]) < 2.1
    assert 3 < float(cells["LETS"][4]) < 4.2


def test_an_epoch_is_compared_with_the_bare_loop(tmp_path):
    lines = run("benchmarks.epoch", "--model", "convnet", "--images", "400", "--epochs", "3", "--device", "cpu")
    assert "runner's epoch" in lines[-1]
    assert "bare loop" in lines[-1]


@pytest.mark.full
def test_a_report_over_many_runs_is_timed():
    [line] = run("benchmarks.report", "--seeds", "1", "--epochs", "1")[-1:]
    assert line.startswith("128 runs: ")
    assert line.endswith(" MB")
