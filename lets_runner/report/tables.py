"""The report's tables as data: scores, cost, sharpness. Markdown, LaTeX and the page write the same ones."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lets_runner.columns import Column as Score
from lets_runner.report.evaluations import CALIBRATION, evaluated, measured
from lets_runner.report.foreign import printable
from lets_runner.report.grid import ABSENT, Cell, Column, Grid, Row
from lets_runner.report.probes import listed, measured_on, probed, radii
from lets_runner.report.runs import STATES, Found
from lets_runner.report.sample import Sample, marks, sample

MIB = 2**20  # bytes
MOST_COLUMNS = 10  # of methods beside each other
TAKEN = ("figures", "directories", "data", "methods", "enlarged", "close")  # anchors of the page that are no tables


@dataclass(frozen=True)
class Entry:
    """`value`: what sorting goes by, None for the text; `mark`: best or close; `detail` follows, never in bold."""

    text: str
    value: float | None = None
    mark: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Head:
    """`data`, `method`: the data set or the word of the method that a column belongs to, empty if to none."""

    text: str
    numeric: bool = True
    data: str = ""
    method: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table; `data` and `method` are what the page filters by."""

    entries: list[Entry]
    data: str = ""
    method: str = ""


@dataclass(frozen=True)
class Table:
    name: str
    title: str
    heads: list[Head]
    lines: list[Line]
    notes: list[str]


def tables(grid: Grid) -> list[Table]:
    """What selects, a table for each such score; what else was scored; cost; what was probed, and measured again."""
    tasks = grid.tasks()
    made = [table for task in tasks for table in (selected(task), *others(task))]
    made.append(cost(grid))
    made += [sharpness(task) for task in tasks if probed(task)]
    made += [robustness(task) for task in tasks if evaluated(task)]
    return _distinct(made)


def _distinct(made: list[Table]) -> list[Table]:
    """With names that are anchors of the page, each once."""
    taken = set(TAKEN)
    for number, table in enumerate(made):
        name = table.name
        while name in taken:
            name += "-table"
        taken.add(name)
        made[number] = replace(table, name=name)
    return made


def selected(grid: Grid) -> Table:
    """Rows of data × model × noise, columns of methods; many methods go down the side instead."""
    score = grid.cells[0].selected
    entries: dict[tuple[Row, Column], Entry] = {}
    for row in grid.rows:
        cells = [grid.at.get((row, column)) for column in grid.columns]
        found = [sample(cell.scores("test")) if cell else None for cell in cells]
        for column, one, mark in zip(grid.columns, found, marks(found, sign=score.sign), strict=True):
            entries[row, column] = _score(one, score, mark)
    turned = len(grid.columns) > max(MOST_COLUMNS, len(grid.rows))
    make = _methods_down if turned else _methods_across
    title = f"Test {score.words}" + (f" in {score.unit}" if score.unit else "")
    return Table(score.name, title, *make(grid, entries), _notes(grid, score))


def others(grid: Grid) -> list[Table]:
    """Scores beside the one that selects, on the test set: a line a cell."""
    scores = list(dict.fromkeys(score for cell in grid.cells for score in beside(cell)))
    if not scores:
        return []
    heads = [*_cell_heads(), Head("seeds"), *(Head(_headed(score)) for score in scores)]
    lines = []
    for cell in grid.cells:
        found = [sample(cell.measured(score, "test")) if score in beside(cell) else None for score in scores]
        entries = [replace(_score(one, score), detail="") for one, score in zip(found, scores, strict=True)]
        lines.append(_line(cell, [Entry(str(len(cell.runs)), len(cell.runs)), *entries]))
    notes = ["After the last epoch: mean ± standard deviation over seeds. Nothing was selected by these."]
    score = grid.cells[0].selected
    return [Table(f"beside-{score.name}", f"Test scores beside {score.words}", heads, lines, notes)]


def beside(cell: Cell) -> list[Score]:
    """What was scored on the test set and does not select."""
    columns = cell.runs[0].columns
    return [score for score in columns.scores if score.name != columns.selects and "test" in score.when]


def _headed(score: Score) -> str:
    return f"test {score.words}" + (f", {score.unit}" if score.unit else "")


def _methods_across(grid: Grid, entries: dict[tuple[Row, Column], Entry]) -> tuple[list[Head], list[Line]]:
    heads = [Head(column.label, method=column.method.word) for column in grid.columns]
    lines = [Line([*_names(row), *(entries[row, column] for column in grid.columns)], row.data) for row in grid.rows]
    return [*_row_heads(), *heads], lines


def _methods_down(grid: Grid, entries: dict[tuple[Row, Column], Entry]) -> tuple[list[Head], list[Line]]:
    heads = [Head(f"{row.data}, {row.model}, {row.label}", data=row.data) for row in grid.rows]
    lines = [
        Line([Entry(column.label), *(entries[row, column] for row in grid.rows)], method=column.method.word)
        for column in grid.columns
    ]
    return [Head("method", numeric=False), *heads], lines


def _notes(grid: Grid, score: Score) -> list[str]:
    worse = {"higher": "lower", "lower": "higher"}[score.better]
    notes = [
        f"After the last epoch: mean ± standard deviation over seeds (number of seeds). Bold: the {score.superlative} "
        "mean on these data with this model and noise. "
        f"†: not significantly {worse} than that (Welch's t-test, two-sided, 5 %).",
    ]
    if any(len(cell.runs) == 1 for cell in grid.cells):
        notes.append("With one seed (1) there is no standard deviation and no test, and so no †.")
    words = [column.method.word for column in grid.columns]
    if len(set(words)) < len(words):
        notes.append("The best of a method's several settings is read off the test set, which flatters it.")
    return notes


def cost(grid: Grid) -> Table:
    """What a training cost, a line a cell."""
    heads = [
        *_cell_heads(),
        Head("seeds"),
        Head("gradient evaluations"),
        Head("perturbed steps, %"),
        Head("seconds"),
        Head("peak memory, MiB"),
        Head("device", numeric=False),
    ]
    lines = [_line(cell, [Entry(str(len(cell.runs)), len(cell.runs)), *_costs(cell)]) for cell in grid.cells]
    notes = ["A training: mean ± standard deviation over seeds. Seconds compare on one device only."]
    return Table("cost", "Cost", heads, lines, notes)


def _costs(cell: Cell) -> list[Entry]:
    devices = sorted({_device(run.summary) for run in cell.runs})
    return [
        _number(cell.numbers("gradient_evaluations"), ",.0f"),
        _number(100 * cell.numbers("perturbed_share"), ".0f"),
        _number(cell.numbers("seconds"), ".1f"),
        _number(cell.numbers("peak_memory") / MIB, ",.0f"),
        Entry("; ".join(devices)),
    ]


def _device(summary: dict) -> str:
    processes = summary.get("processes") or 1
    return printable(f"{summary.get('device') or ABSENT}" + (f" × {processes}" if processes != 1 else ""))


def sharpness(grid: Grid) -> Table:
    """How flat the minima are, where runs were probed: a line a cell and way of measuring, and in how many runs."""
    cells = probed(grid)
    rises = radii(cells)
    heads = [
        *_cell_heads(),
        Head("probed"),
        Head(_headed(cells[0].selected)),
        Head("λ₁"),
        Head("trace"),
        Head("its standard error"),
        *(Head(f"m-sharpness, ρ = {rho}") for rho in rises["m_sharpness"]),
        *(Head(f"adaptive sharpness, ρ = {rho}") for rho in rises["adaptive_sharpness"]),
        Head("measured on", numeric=False),
    ]
    lines = [_line(cell, _sharpness(cell, rises)) for cell in cells]
    notes = [
        "Of the loss that was trained on, over the examples of the last column: λ₁ and trace of its Hessian, and its "
        f"rise within ρ. Batch norm in {listed(cells, 'batch_norm')} mode. "
        "Mean ± standard deviation over the probed seeds.",
    ]
    return Table("sharpness", "Sharpness", heads, lines, notes)


def _sharpness(cell: Cell, rises: dict[str, list[str]]) -> list[Entry]:
    probes = [run.probe for run in cell.runs]
    eigenvalues = [(probe.get("hessian_eigenvalues") or [None])[0] for probe in probes]
    return [
        Entry(str(len(probes)), len(probes)),
        _number(cell.scores("test"), form(cell.selected)),
        _number(eigenvalues, ".4g"),
        _number([probe.get("hessian_trace") for probe in probes], ".4g"),
        _number([probe.get("hessian_trace_error") for probe in probes], ".2g"),
        *(
            _number([(probe.get(kind) or {}).get(rho) for probe in probes], ".3g")
            for kind, several in rises.items()
            for rho in several
        ),
        Entry(measured_on(probes[0])),
    ]


def robustness(grid: Grid) -> Table:
    """Scores and calibration where runs were measured again: a line a cell, data set and choice of corruptions."""
    found = evaluated(grid)
    score = grid.cells[0].selected
    also = [column for column in CALIBRATION if measured(found, column)]
    spoiled = [score, *(column for column in also if column.name == "ece")] if any(o.corruptions for o in found) else []
    heads = [
        *_cell_heads(),
        Head("measured on", numeric=False),
        Head("runs"),
        *(Head(column.title + (", %" if column.unit == "%" else "")) for column in [score, *also]),
        *([Head("corruptions", numeric=False)] if spoiled else []),
        *(Head(f"{column.title} under them" + (", %" if column.unit == "%" else "")) for column in spoiled),
    ]
    lines = []
    for one in found:
        entries = [Entry(one.words), Entry(str(len(one.cell.runs)), len(one.cell.runs))]
        entries += [_scaled(one.clean(column.name), column) for column in [score, *also]]
        entries += [Entry(one.spoiled)] if spoiled else []
        entries += [_scaled(one.corrupted(column.name), column) for column in spoiled]
        lines.append(_line(one.cell, entries))
    notes = ["By lets-eval: mean ± standard deviation over seeds; under corruptions of the mean over all their sets."]
    return Table("robustness", "Robustness and calibration", heads, lines, notes)


def _scaled(values: Iterable[float | None], score: Score) -> Entry:
    return _number([None if value is None else score.factor * value for value in values], form(score))


def left_out(found: Found, *, most: int | None = None) -> list[str]:
    """What stands in no table and why, a line a state; at most `most` names in all of them, the rest as a number."""
    lines = [f"Directories: {found.counts}. The tables hold the finished ones alone."]
    room = len(found.others) if most is None else most
    for state in STATES:
        others = found.of(state)
        if not others:
            continue
        named = [f"{other.directory} ({other.reason})" for other in others[:room]]
        room -= len(named)
        more = len(others) - len(named)
        lines.append(f"{state.capitalize()}: " + "; ".join([*named, *([f"{more} more"] if more else [])]))
    return lines


def _row_heads() -> list[Head]:
    return [Head("data", numeric=False), Head("model", numeric=False), Head("label noise")]


def _cell_heads() -> list[Head]:
    return [*_row_heads(), Head("method", numeric=False)]


def _names(row: Row) -> list[Entry]:
    return [Entry(row.data), Entry(row.model), Entry(row.label, -1 if row.noise is None else row.noise)]


def _line(cell: Cell, entries: list[Entry]) -> Line:
    column: Column = cell.column
    return Line([*_names(cell.row), Entry(column.label), *entries], cell.row.data, column.method.word)


def form(score: Score) -> str:
    """How a number is written in tables."""
    return ".2f" if score.unit == "%" else ".4g"


def _score(one: Sample | None, score: Score, mark: str = "") -> Entry:
    return Entry(one.text(form(score)), one.mean, mark, f"({one.n})") if one else Entry(ABSENT, -math.inf)


def _number(values: Iterable[float | None], form: str) -> Entry:
    one = sample(math.nan if value is None else value for value in values)
    if one is None:
        return Entry(ABSENT, -math.inf)
    return Entry(f"{one.mean:{form}}" if not one.sd else one.text(form), one.mean)
