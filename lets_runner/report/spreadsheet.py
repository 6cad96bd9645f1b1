"""The report's numbers as csv: a row for every cell in `table.csv`, of those probed in `sharpness.csv`, and for every
directory in `directories.csv`.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lets_runner.report.grid import Cell, Grid, grouped
from lets_runner.report.runs import Found
from lets_runner.report.sample import marks, sample
from lets_runner.report.tables import measured_on, probed, radii

# Numbers of the summary, each as mean and standard deviation, and what they are multiplied by.
MEASURES = {
    "test_accuracy_percent": ("test_accuracy", 100),
    "val_accuracy_percent": ("val_accuracy", 100),
    "test_loss": ("test_loss", 1),
    "gap": ("gap", 1),
    "rho": ("rho", 1),
    "gradient_evaluations": ("gradient_evaluations", 1),
    "perturbed_share": ("perturbed_share", 1),
    "seconds": ("seconds", 1),
    "peak_memory_bytes": ("peak_memory", 1),
}
PROBED: dict[str, Callable[[dict], Any]] = {
    "top_eigenvalue": lambda probe: (probe.get("hessian_eigenvalues") or [None])[0],
    "hessian_trace": lambda probe: probe.get("hessian_trace"),
    "hessian_trace_error": lambda probe: probe.get("hessian_trace_error"),
}


def cells_csv(grid: Grid) -> str:
    """Every cell of the tables, long: names, what it is called by, n, means and standard deviations, mark."""
    rows = []
    for cells in grouped(grid.cells, lambda cell: cell.row):
        found = marks([sample(cell.accuracy) for cell in cells])
        rows += [{**_names(cell), "mark": mark, **_measures(cell)} for cell, mark in zip(cells, found, strict=True)]
    return _csv(rows)


def sharpness_csv(grid: Grid) -> str:
    """What runs were probed for: a row a cell and way of measuring; empty if none was."""
    cells = probed(grid)
    rises = radii(cells)
    rows = [{**_names(cell), "measured_on": measured_on(cell.runs[0].probe), **_probes(cell, rises)} for cell in cells]
    return _csv(rows) if rows else ""


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
    return _written({name: factor * cell.numbers(key) for name, (key, factor) in MEASURES.items()})


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
    writer.writerows(rows)
    return text.getvalue()
