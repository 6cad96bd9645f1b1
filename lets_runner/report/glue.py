"""GLUE as papers show it: a line a method, a column a task, and the average over tasks."""

import math
from collections.abc import Iterable

from lets_runner.report.grid import ABSENT, Cell, Grid
from lets_runner.report.sample import marks, sample
from lets_runner.report.tables import Entry, Head, Line, Table

TASKS = {  # in the order of GLUE's own table
    **{"cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "stsb": "STS-B", "qqp": "QQP"},
    **{"mnli": "MNLI", "qnli": "QNLI", "rte": "RTE", "wnli": "WNLI"},
}
Method = tuple[str, str, str]  # model, noise and label


def benchmark(grid: Grid) -> Table | None:
    """The table; None where fewer than two tasks were run, or one of them in several ways by one method.

    The average is over the tasks of the table, seed by seed, of methods that were run on all of them.
    """
    cells = [cell for cell in grid.cells if _task(cell) in TASKS]
    at = {(_method(cell), _task(cell)): cell for cell in cells}
    tasks = [task for task in TASKS if any(_task(cell) == task for cell in cells)]
    if len(tasks) < 2 or len(at) < len(cells):
        return None
    methods = list(dict.fromkeys(map(_method, cells)))
    columns = [[_scores([at[m, task]]) if (m, task) in at else {} for m in methods] for task in tasks]
    whole = [[at[m, task] for task in tasks] if all((m, t) in at for t in tasks) else [] for m in methods]
    columns.append(list(map(_scores, whole)))
    written = [_column(column) for column in columns]
    told = [number for number in (0, 1) if len({m[number] for m in methods}) > 1]  # of models and noises
    heads = [
        *(Head(("model", "label noise")[number], numeric=False) for number in told),
        Head("method", numeric=False),
        *(Head(f"{TASKS[task]}, {_measure(cells, task)}") for task in tasks),
        Head("average"),
    ]
    lines = []
    for method, entries in zip(methods, zip(*written, strict=True), strict=True):
        word = next(cell.column.method.word for cell in cells if _method(cell) == method)
        lines.append(Line([*(Entry(method[i]) for i in told), Entry(method[2]), *entries], "glue", word))
    notes = [
        "What selects, × 100, on the development set after the last epoch: mean ± standard deviation over seeds (their "
        "number). Average: over the tasks of this table, seed by seed. Bold: the highest mean. †: not significantly "
        "lower than that (Welch's t-test, two-sided, 5 %)."
    ]
    return Table("glue", "GLUE", heads, lines, notes)


def _task(cell: Cell) -> str:
    target = str(cell.settings.get("data._target_"))
    return str(cell.settings.get("data.task")) if target.endswith(".GLUE") else ""


def _method(cell: Cell) -> Method:
    return str(cell.runs[0].summary["model"]), cell.row.label, cell.column.label


def _measure(cells: Iterable[Cell], task: str) -> str:
    return next(cell.selected.words for cell in cells if _task(cell) == task)


def _scores(cells: list[Cell]) -> dict[int, float]:
    """The mean over cells of the score, in hundredths, by seed: of the seeds that all have."""
    found = [{run.seed: 100 * run.number(f"test_{cell.selected.name}") for run in cell.runs} for cell in cells]
    seeds = set.intersection(*map(set, found)) if found else set()
    return {seed: sum(scores[seed] for scores in found) / len(found) for seed in sorted(seeds)}


def _column(column: list[dict[int, float]]) -> list[Entry]:
    found = [sample(scores.values()) for scores in column]
    return [
        Entry(one.text(".2f"), one.mean, mark, f"({one.n})") if one else Entry(ABSENT, -math.inf)
        for one, mark in zip(found, marks(found), strict=True)
    ]
