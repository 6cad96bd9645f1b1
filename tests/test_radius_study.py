"""`scripts/radius_study.py`: its tables and figure of results that are made here, and a training of a line."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "radius_study.py"


@pytest.fixture
def study(monkeypatch):
    spec = importlib.util.spec_from_file_location("radius_study", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "radius_study", module)  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def made(study, folder, accuracies):
    """Results with a run of every seed for every method."""
    results = study.Results(folder)
    for method, values in accuracies.items():
        for seed, value in enumerate(values, 2):
            row = dict.fromkeys(study.FIELDS, "1") | {"problem": "cifar10-40", "method": method, "seed": str(seed)}
            row["test_accuracy"] = str(value)
            results.add(("cifar10-40", method, seed), row, [0.1 * seed] * study.POINTS)
    return results


def test_tables_say_the_mean_and_the_best_of_a_grid(study, tmp_path):
    accuracies = {
        "SAM 0.1": [0.42, 0.44],
        "SAM 0.2": [0.40, 0.41],
        "horizon SAM": [0.45, 0.46],
        "ramp to 0.2 at 50%": [0.4],
    }
    made(study, tmp_path, accuracies)
    results = study.Results(tmp_path)  # read again
    summary = study.overview(results).splitlines()[-1]
    assert summary.split(" | ")[2:5] == ["43.0 ± 1.4 (0.1)", "40.0 (to 0.2 at 50%)", "45.5 ± 0.7"]
    assert "| SAM 0.2 | 40.5 ± 0.7 | 1 | 1.00 | 1 |" in study.table(results, "cifar10-40")
    assert len(study.draw(results).axes) == 1


def test_a_replay_goes_through_the_geometric_mean_of_what_was_learned(study, tmp_path):
    *_, points = study.replay(made(study, tmp_path, {"horizon SAM": [0.4, 0.5]}), "cifar10-40")
    pairs = np.array(eval(points.removeprefix("radius.points=")))
    assert pairs[:, 1] == pytest.approx(np.sqrt(0.2 * 0.3), rel=1e-4)
    assert pairs[[0, -1], 0] == pytest.approx([0.01, 0.99])


def test_every_line_of_every_table_composes(study):
    from lets_runner import cli

    words = {words for problem in study.PROBLEMS.values() for words in problem.methods().values()}
    for line in words:
        if "radius=one_large_step" not in line:
            cli.compose(*line)
    grid = study.PROBLEMS["cifar10-40"]
    assert {"SGD", "horizon SAM", "horizon ASAM", "ramp to 0.3 at 100%", "LETS from 0.2"} <= {*grid.methods()}


def test_a_line_is_trained_and_kept(study, tmp_path, monkeypatch):
    monkeypatch.setitem(
        study.PROBLEMS, "tiny", study.Problem("tiny", ("epochs=1", "model=mlp"), seeds=(0, 1), sam=(0.1,))
    )
    results = study.Results(tmp_path / "results")
    study.train(results, "tiny", "one large step", ("radius=one_large_step",), [0, 1], tmp_path)
    assert {key[2] for key in results.runs} == {0, 1}
    assert all(0.05 < float(row["test_accuracy"]) <= 1 for row in results.runs.values())
    assert all(row["evaluations_a_step"] == "3.000" for row in results.runs.values())
    assert results.radii["tiny", "one large step", 0][0] > 0.1  # interpolated from a first step of 0.5
    before = results.runs_file.read_bytes()
    study.train(results, "tiny", "one large step", ("radius=one_large_step",), [0, 1], tmp_path)
    assert results.runs_file.read_bytes() == before


def test_the_page_of_results_has_what_the_script_prints(study):
    page = (SCRIPT.parents[1] / "docs" / "results.md").read_text(encoding="utf-8")
    results = study.Results(study.DOCS)
    assert study.overview(results) in page
    assert study.document(results) in (study.DOCS / "tables.md").read_text(encoding="utf-8")
