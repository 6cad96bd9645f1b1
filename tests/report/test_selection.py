"""What a report is of: `--where`, and the best of a search."""

import csv

import pytest
from made import REGRESSION, make_run

from lets_runner.report import command
from lets_runner.report.grid import grid
from lets_runner.report.runs import find
from lets_runner.report.selection import Condition, fold, only


@pytest.fixture
def runs(tmp_path):
    make_run(tmp_path / "runs", method="erm", epochs=3)
    make_run(tmp_path / "runs", method="lets_sam", epochs=3)
    make_run(tmp_path / "runs", method="lets_sam", epochs=10, seed=1, extra={"optimizer.lr": 0.1, "clip": None})
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("conditions", "methods"),
    [
        (["epochs=3"], ["erm", "lets_sam"]),
        (["epochs=10"], ["lets_sam"]),
        (["epochs=3", "method=erm"], ["erm"]),
        (["method=erm,lets_sam", "seed=0"], ["erm", "lets_sam"]),
        (["optimizer.lr=1e-1"], ["lets_sam"]),
        (["optimizer.lr=0.05,0.10"], ["erm", "lets_sam", "lets_sam"]),
        (["clip=null"], ["lets_sam"]),
        (["data=digits"], ["erm", "lets_sam", "lets_sam"]),
    ],
)
def test_only_runs_with_a_setting(runs, conditions, methods):
    found = find([runs])
    only(found, map(Condition.parse, conditions))
    assert sorted(run.summary["method"] for run in found.runs) == methods
    assert len(found.runs) + len(found.of("excluded")) == 3


def test_what_is_excluded_is_counted_and_named(runs, capsys):
    command.main([str(runs), "--where", "epochs=3", "--out", str(runs.parent / "out")])
    assert capsys.readouterr().out.startswith("2 finished, 1 excluded; ")
    table = list(csv.DictReader((runs.parent / "out" / "directories.csv").read_text().splitlines()))
    assert [(row["state"], row["reason"]) for row in table if row["state"] != "finished"] == [
        ("excluded", "epochs = 10")
    ]
    text = (runs.parent / "out" / "table.md").read_text()
    assert "| data | model | label noise | ERM | LETS-SAM |" in text
    assert "Excluded: " in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--where", "epochs=7"], "--where epochs=7: no run has that; there is 3, 10"),
        (["--where", "epoch=3"], "--where epoch=3: no run has such a setting; did you mean epochs?"),
        (["--where", "lr=0.1"], "did you mean optimizer.lr?"),
        (["--where", "epochs"], "--where epochs: must be a setting and its value"),
        (["--where", "epochs=3", "--where", "optimizer.lr=0.1"], "there is 0.05"),
        (["--figure", "nothing:gap"], "--figure nothing:gap: there is a figure gap already"),
        (["--figure", "no_such_module:scatter"], "No module named 'no_such_module'"),
        (["--figure", "json:scatter"], "has no attribute 'scatter'"),
        (["--figure", "json:__doc__"], "__doc__ is no function"),
        (["--figure", "scatter"], "must be a module and a function in it"),
        (["--figure", "json:dumps", "--figure", "json:dumps"], "two of the same name"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(runs, capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        command.main([str(runs), *words, "--out", str(runs.parent / "out")])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.err.startswith("lets-report: ") and captured.err.count("\n") == 1
    assert message in captured.err
    assert not (runs.parent / "out").exists()


def trial(root, rho, val, study="rho", over=("sam.rho",), score="accuracy", **more):
    """A run that a search tried; what it is worth on the test set is the opposite of that on validation."""
    search = {"study": study, "over": list(over)}
    return make_run(root, rho=rho, accuracy=1 - val, score=score, search=search, **{f"val_{score}": val}, **more)


def labels(found):
    fold(found)
    return [column.label for column in grid(found.runs).columns]


def test_a_search_is_its_best_by_validation(tmp_path):
    for rho, val in {0.01: 0.6, 0.05: 0.9, 0.2: 0.7}.items():
        trial(tmp_path, rho, val)
    make_run(tmp_path, method="erm")
    found = find([tmp_path])
    assert labels(found) == ["ERM", "SAM (search = best by validation)"]
    [best] = [run for run in found.runs if run.summary["method"] == "sam"]
    assert best.settings["sam.rho"] == 0.05
    assert found.counts == "2 finished, 2 searched"
    assert {other.reason for other in found.others} == {f"the search rho found a better one: {best.directory}"}


def test_of_an_error_the_lowest_is_the_best(tmp_path):
    for rho, val in {0.01: 0.6, 0.05: 0.9, 0.2: 0.7}.items():
        trial(tmp_path, rho, val, score="mse", columns=REGRESSION)
    found = find([tmp_path])
    fold(found)
    assert [run.settings["sam.rho"] for run in found.runs] == [0.01]


def test_searches_that_vary_the_same_under_other_settings_are_two(tmp_path):
    for lr in (0.1, 0.2):
        for rho in (0.05, 0.1):
            trial(tmp_path, rho, 0.5 + rho + lr, extra={"optimizer.lr": lr})
    assert labels(find([tmp_path])) == [
        "SAM (lr = 0.1, search = best by validation)",
        "SAM (lr = 0.2, search = best by validation)",
    ]


def test_all_that_a_search_varies_is_folded(tmp_path):
    for lr in (0.1, 0.2):
        for rho in (0.05, 0.1):
            trial(tmp_path, rho, 0.5 + rho + lr, extra={"optimizer.lr": lr}, over=("sam.rho", "optimizer.lr"))
    assert labels(find([tmp_path])) == ["SAM (search = best by validation)"]


def test_what_was_also_run_by_hand_stays(tmp_path):
    trial(tmp_path, 0.05, 0.9)
    trial(tmp_path, 0.1, 0.8)
    make_run(tmp_path, rho=0.1, seed=1)
    make_run(tmp_path, rho=0.05, seed=1)
    found = find([tmp_path])
    assert labels(found) == ["SAM (ρ = 0.05, search = best by validation)", "SAM (ρ = 0.1)"]
    assert found.counts == "4 finished"


def test_without_validation_nothing_is_folded(tmp_path):
    for rho in (0.05, 0.1):
        make_run(tmp_path, rho=rho, val_accuracy=None, search={"study": "rho", "over": ["sam.rho"]})
    assert labels(find([tmp_path])) == ["SAM (ρ = 0.05)", "SAM (ρ = 0.1)"]


@pytest.mark.parametrize("search", ["rho", 3, {}, {"study": 1, "over": []}, {"study": "rho", "over": "sam.rho"}])
def test_what_is_no_search_is_none(tmp_path, search):
    for rho in (0.05, 0.1):
        make_run(tmp_path, rho=rho, search=search)
    assert labels(find([tmp_path])) == ["SAM (ρ = 0.05)", "SAM (ρ = 0.1)"]
