"""The report's numbers as csv: a row for every cell in `table.csv`, of those probed in `sharpness.csv`, of
those measured again in `robustness.csv`, and for every directory in `directories.csv`.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lets_runner.report.evaluations import evaluated
from lets_runner.report.grid import Cell, Grid, grouped
from lets_runner.report.probes import measured_on, probed, radii
from lets_runner.report.runs import Found
from lets_runner.report.sample import marks, sample

# Numbers of the summary beside the scores, each as mean and standard deviation.
MEASURES = {
    "test_loss": "test_loss",
    "gap": "gap",
    "rho": "rho",
    "gradient_evaluations": "gradient_evaluations",
    "perturbed_share": "perturbed_share",
    "seconds": "seconds",
    "peak_memory_bytes": "peak_memory",
}
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how one begins
PROBED: dict[str, Callable[[dict], Any]] = {
    "top_eigenvalue": lambda probe: (probe.get("hessian_eigenvalues") or [None])[0],
    "hessian_trace": lambda probe: probe.get("hessian_trace"),
    "hessian_trace_error": lambda probe: probe.get("hessian_trace_error"),
}


def cells_csv(grid: Grid) -> str:
    """Every cell of the tables, long: names, what it is called by, n, means and standard deviations, mark."""
    rows = []
    for cells in grouped(grid.cells, lambda cell: cell.row):
        found = marks([sample(cell.scores("test")) for cell in cells], sign=cells[0].selected.sign)
        rows += [{**_names(cell), "mark": mark, **_measures(cell)} for cell, mark in zip(cells, found, strict=True)]
    scores = dict.fromkeys(name for cell in grid.cells for name in _written(_scores(cell)))
    return _csv(rows, like={**_names(grid.cells[0]), "mark": "", **scores, **rows[0]})


def sharpness_csv(grid: Grid) -> str:
    """What runs were probed for: a row a cell and way of measuring; empty if none was."""
    cells = probed(grid)
    rises = radii(cells)
    rows = [{**_names(cell), "measured_on": measured_on(cell.runs[0].probe), **_probes(cell, rises)} for cell in cells]
    return _csv(rows) if rows else ""


def robustness_csv(grid: Grid) -> str:
    """What runs were measured on again: a row a cell and set of examples; empty if none was."""
    rows = []
    for one in evaluated(grid):
        scores = dict.fromkeys(name for run in one.cell.runs for row in run.evaluation for name in row.scores)
        for about in one.sets:
            named = {"measured_on": one.words, "corruption": about[0], "severity": about[1]}
            rows.append({**_names(one.cell), **named, **_written({name: one.at(name, about) for name in scores})})
    return _csv(rows, like={name: "" for row in rows for name in row}) if rows else ""


def directories_csv(grid: Grid, found: Found) -> str:
    """Every directory and what became of it."""
    finished = [
        {"directory": run.directory, "state": "finished", "reason": "", **_names(cell), "seed": run.seed}
        for cell in grid.cells
        for run in cell.runs
    ]
    others = [{"directory": other.directory, "state": other.state, "reason": other.reason} for other in found.others]
    return _csv(sorted([*finished, *others], key=lambda row: str(row["directory"])), like=finished[0])


def _names(cell: Cell) -> dict[str, Any]:
    row, column = cell.row, cell.column
    return {
        "data": row.data,
        "model": row.model,
        "label_noise": row.noise,
        "noise": row.kind,
        "method": column.method.word,
        "name": column.name,
        "settings": ", ".join(f"{key} = {value}" for key, value in column.settings),
        "configuration": cell.runs[0].configuration[:8],
        "seeds": len(cell.runs),
    }


def _measures(cell: Cell) -> dict[str, Any]:
    return _written({**_scores(cell), **{name: cell.numbers(key) for name, key in MEASURES.items()}})


def _scores(cell: Cell) -> dict[str, Any]:
    """The scores on test and validation examples, what selects first; shares in percent."""
    columns = cell.runs[0].columns
    return {
        f"{part}_{score.name}" + ("_percent" if score.unit == "%" else ""): cell.measured(score, part)
        for score in sorted(columns.scores, key=lambda score: score.name != columns.selects)
        for part in ("test", "val")
        if part in score.when
    }


def _probes(cell: Cell, rises: dict[str, list[str]]) -> dict[str, Any]:
    probes = [run.probe for run in cell.runs]
    values = {name: [read(probe) for probe in probes] for name, read in PROBED.items()}
    for kind, several in rises.items():
        values |= {f"{kind}({rho})": [(probe.get(kind) or {}).get(rho) for probe in probes] for rho in several}
    return _written(values)


def _written(values: Mapping[str, Iterable[Any]]) -> dict[str, Any]:
    """Mean and standard deviation of each."""
    written = {}
    for name, numbers in values.items():
        one = sample(math.nan if number is None else number for number in numbers)
        written[f"{name}_mean"] = one and f"{one.mean:.9g}"
        written[f"{name}_sd"] = None if one is None or one.sd is None else f"{one.sd:.9g}"
    return written


def _csv(rows: list[dict[str, Any]], like: dict[str, Any] | None = None) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(like or rows[0]), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: _inert(value) for name, value in row.items()} for row in rows])
    return text.getvalue()


def _inert(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula, with a quote before it; numbers as they are."""
    text = str(value)
    if not text.startswith(FORMULA):
        return value
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return value
