"""What comes from outside, without a change here: a task's scores, a metric, a figure."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import train, write_csv
from made import REGRESSION, make_run

from lets_runner.report import command

FIGURES = """
from matplotlib.figure import Figure


def gap_over_radius(grid, styles):
    cells = [cell for cell in grid.cells if "sam.rho" in cell.settings]
    if not cells:
        return None
    figure = Figure()
    axes = figure.subplots()
    for cell in cells:
        axes.plot(cell.settings["sam.rho"], cell.numbers("gap").mean(), styles[cell.column.method.word].marker)
    figure.suptitle("gap over radius")
    return figure


def broken(grid, styles):
    raise KeyError("there is no such thing")
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module that the report knows nothing of."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "myfigures.py").write_text(FIGURES)
    monkeypatch.syspath_prepend(tmp_path / "src")
    for data in ("cifar10", "digits", "mnist"):  # more than one: another process draws some
        make_run(tmp_path / "runs", data=data, method="sam")
    make_run(tmp_path / "runs", data="plain", method="erm")
    return tmp_path


def test_a_figure_from_outside_is_drawn_for_every_data_set(mine, capsys):
    command.main([str(mine / "runs"), "--figure", "myfigures:gap_over_radius", "--out", str(mine / "out")])
    assert capsys.readouterr().err == ""
    drawn = {path.name for path in (mine / "out" / "figures").glob("*gap-over-radius.png")}
    assert drawn == {f"{data}-convnet-gap-over-radius.png" for data in ("cifar10", "digits", "mnist")}
    assert len(list((mine / "out" / "figures").glob("*gap-over-radius.pdf"))) == 3
    assert 'alt="gap over radius (SAM)"' in (mine / "out" / "index.html").read_text()


def test_a_figure_that_fails_is_named_and_takes_no_other_with_it(mine, capsys):
    words = ["--figure", "myfigures:broken", "--figure", "myfigures:gap_over_radius"]
    command.main([str(mine / "runs"), *words, "--out", str(mine / "out")])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0] == (
        "lets-report: the figure cifar10-convnet-broken is not drawn (KeyError: 'there is no such thing', in "
        "myfigures.py, line 18)"
    )
    assert len(list((mine / "out" / "figures").glob("*gap-over-radius.png"))) == 3


def test_the_figure_of_the_guide_is_drawn(mine, capsys):
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")
    [code] = [block for block in re.findall(r"```python\n(.*?)```", guide, re.S) if block.startswith("# myfigures.py")]
    (mine / "src" / "guidefigures.py").write_text(code, encoding="utf-8")
    command.main([str(mine / "runs"), "--figure", "guidefigures:gap_over_radius", "--out", str(mine / "out")])
    assert capsys.readouterr().err == ""
    assert len(list((mine / "out" / "figures").glob("*gap-over-radius.png"))) == 4


def rows(text, title):
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:1] == "|"]


def test_tables_of_errors_praise_the_lowest(tmp_path):
    errors = {"erm": [0.30, 0.32], "sam": [0.10, 0.12], "lets_sam": [0.11, 0.125]}
    for method, values in errors.items():
        for seed, value in enumerate(values):
            settings = {"score": "mse", "columns": REGRESSION, "test_r2": 1 - value, "val_r2": 0.5}
            make_run(tmp_path / "runs", method=method, seed=seed, accuracy=value, **settings)
    command.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    text = (tmp_path / "out" / "table.md").read_text()
    head, _, line = rows(text, "Test mse")
    assert head[3:] == ["ERM", "SAM", "LETS-SAM"]
    sd = [np.std(values, ddof=1) for values in errors.values()]
    assert line[3:] == [f"0.31 ± {sd[0]:.4g} (2)", f"**0.11 ± {sd[1]:.4g}** (2)", f"0.1175 ± {sd[2]:.4g}† (2)"]
    assert "Bold: the lowest mean" in text and "†: not significantly higher than that" in text
    head, _, *lines = rows(text, "Test scores beside mse")
    assert head[-2:] == ["seeds", "test r2"]
    assert [line[-1].split(" ")[0] for line in lines] == ["0.69", "0.89", "0.8825"]
    assert "accuracy" not in text and "%" not in line[3]
    table = {row["method"]: row for row in csv.DictReader((tmp_path / "out" / "table.csv").read_text().splitlines())}
    assert [row["mark"] for row in table.values()] == ["", "best", "close"]
    assert float(table["sam"]["test_mse_mean"]) == pytest.approx(0.11)
    assert float(table["sam"]["test_r2_mean"]) == pytest.approx(0.89)
    assert not any("accuracy" in name for name in table["sam"])
    assert "accuracy" not in (tmp_path / "out" / "table.tex").read_text()
    assert "Test accuracy" not in (tmp_path / "out" / "index.html").read_text()


def test_scores_that_select_are_tables_of_their_own(tmp_path):
    make_run(tmp_path / "runs", method="sam")
    other = {"score": "mse", "columns": REGRESSION, "test_r2": 0.7, "extra": {"task._target_": "mine.Brier"}}
    make_run(tmp_path / "runs", method="sam", accuracy=0.3, **other)
    command.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    text = (tmp_path / "out" / "table.md").read_text()
    assert rows(text, "Test accuracy in %")[2][3:] == ["**90.00** (1)"]
    assert rows(text, "Test mse")[2][3:] == ["**0.3** (1)"]
    table = list(csv.DictReader((tmp_path / "out" / "table.csv").read_text().splitlines()))
    assert [(row["test_accuracy_percent_mean"], row["test_mse_mean"], row["mark"]) for row in table] == [
        ("90", "", "best"),
        ("", "0.3", "best"),
    ]
    assert len(list((tmp_path / "out" / "figures").glob("*-curves.png"))) == 2


MEASURE = """
import torch

from lets_runner.columns import Column
from lets_runner.measures import Measure


class WorstError(Measure):
    columns = (Column("rmse_percent", "%", better="lower", when=("val", "test")),)
    sums = ("squares",)

    def add(self, outputs, targets):
        return {"squares": (outputs - targets).square().mean(1).sum()}

    def scores(self, sums, count):
        return {"rmse_percent": (sums["squares"] / count) ** 0.5}
"""


def test_a_real_regression_with_a_metric_from_outside(tmp_path, monkeypatch):
    """From a file of numbers to the tables: trained, and reported on in a process without torch."""
    (tmp_path / "mymeasure.py").write_text(MEASURE)
    monkeypatch.syspath_prepend(tmp_path)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 3))
    targets = inputs @ [[1.0], [-2.0], [0.5]]
    file = write_csv(tmp_path / "numbers.csv", "a,b,c,y", np.concatenate([inputs, targets], 1))
    measures = "[{_target_: lets_runner.measures.SquaredError},{_target_: mymeasure.WorstError}]"
    words = ["data=table", f"data.path={file}", "data.target=y", "task=regression", f"+task.measures={measures}"]
    for method in ("erm", "sam"):
        directory = train(tmp_path / "runs", *words, "model=mlp", f"method={method}", "batch_size=16")
        assert (directory / "curves.png").is_file()
    code = "import sys; from lets_runner.report.command import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    arguments = [str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.stderr == "" and done.stdout.endswith("False\n")
    text = (tmp_path / "out" / "table.md").read_text()
    [errors] = [line[3:] for line in rows(text, "Test mse")[2:]]
    assert sum("**" in cell for cell in errors) == 1
    head, _, *lines = rows(text, "Test scores beside mse")
    assert head[-2:] == ["test r2", "test rmse percent, %"]
    for line, cell in zip(lines, errors, strict=True):
        assert float(line[-1]) == pytest.approx(100 * float(cell.strip("*").split(" ")[0].rstrip("*")) ** 0.5, rel=1e-3)
