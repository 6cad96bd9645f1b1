"""Runs in order: rows of data × model × label noise, columns of methods, in every cell the seeds of one configuration.

Configurations are never averaged together. Where they differ in more than row and method, the settings in which they
differ join the label: those of data and model the row's, all others the column's. Columns that stand side by side are
labelled with whatever differs between them beside the method, its variant and its radius: epochs, learning rate.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from lets_runner.columns import PARTS, Columns
from lets_runner.columns import Column as Score
from lets_runner.report.foreign import printable
from lets_runner.report.methods import Method, distinct, method
from lets_runner.report.runs import Run, Settings

NOISE = ("data.label_noise", "data.noise")
SHORT = {"optimizer.lr": "lr"}
RHO = "sam.rho"
RADIUS = ("ρ", "ρ₀")  # fixed, and where a moving one starts
UNUSED = "unused ρ"  # of a rule that starts from none
SEARCHED = ("search", "best by validation")
METHOD, ROW = ("sam.", "radius."), ("data.", "model.")  # settings that make a method, and a row
ABSENT = "–"

T = TypeVar("T")
Told = tuple[tuple[str, str], ...]  # settings and their values, as people read them


@dataclass(frozen=True)
class Row:
    """`noise`: share of wrong labels, None where the data know of none; `kind` of noise; `measured`: see `shown`."""

    data: str
    model: str
    kind: str
    noise: float | None
    measured: Columns

    @property
    def label(self) -> str:
        """The noise alone."""
        if self.noise is None:
            return ABSENT
        return f"{self.noise * 100:g} %" + (f" {self.kind}" if self.kind not in ("", "symmetric") else "")

    @property
    def rank(self) -> tuple:
        return self.data, self.model, self.kind, -1 if self.noise is None else self.noise, repr(self.measured)


@dataclass(frozen=True)
class Column:
    """A method, and what sets it apart from others of that method: (("ρ", "0.1"),); `rank` orders those."""

    method: Method
    name: str
    settings: Told
    rank: tuple

    @property
    def order(self) -> tuple:
        return self.method, self.rank

    @property
    def label(self) -> str:
        return self.label_without(())

    def label_without(self, names: Iterable[str]) -> str:
        return labelled(self.name, [pair for pair in self.settings if pair[0] not in names])


@dataclass(frozen=True)
class Cell:
    """The runs of one configuration, one a seed."""

    row: Row
    column: Column
    runs: list[Run]

    @property
    def settings(self) -> Settings:
        return self.runs[0].settings

    def numbers(self, name: str) -> np.ndarray:
        """A number of the summaries, a value a seed, nan where there is none."""
        return np.array([run.number(name) for run in self.runs])

    @property
    def selected(self) -> Score:
        """What chooses between epochs and runs of this task, and is compared in tables."""
        return self.row.measured.selected

    def scores(self, part: str) -> np.ndarray:
        """What selects, after the last epoch, as it is shown: shares in %."""
        return self.measured(self.selected, part)

    def measured(self, score: Score, part: str) -> np.ndarray:
        return score.factor * self.numbers(f"{part}_{score.name}")

    @property
    def start(self) -> float | None:
        """Where a radius that moves started; None where it is fixed, or its rule starts from none."""
        starts = self.numbers("rho_start")
        return float(starts[0]) if self.column.method.moves and np.isfinite(starts).all() else None

    def epochs(self, name: str) -> np.ndarray | None:
        """A column of `epochs.csv`, of shape (seeds, epochs); None where a seed lacks it or it is empty."""
        columns = [run.epochs.get(name) for run in self.runs]
        if any(column is None or not np.isfinite(column).any() for column in columns):
            return None
        if len({len(column) for column in columns if column is not None}) > 1:
            return None  # which no two seeds of a configuration have
        return np.stack([column for column in columns if column is not None])


@dataclass(frozen=True)
class Grid:
    """Cells in the order of rows and, within a row, of columns."""

    cells: list[Cell]

    @cached_property
    def at(self) -> dict[tuple[Row, Column], Cell]:
        return {(cell.row, cell.column): cell for cell in self.cells}

    @cached_property
    def rows(self) -> list[Row]:
        return sorted({cell.row for cell in self.cells}, key=lambda row: row.rank)

    @cached_property
    def columns(self) -> list[Column]:
        return sorted({cell.column for cell in self.cells}, key=lambda column: column.order)

    def parts(self) -> "list[Grid]":
        """A grid for each data set, model and task: what figures are drawn of."""
        return self._split(lambda row: (row.data, row.model, row.measured))

    def tasks(self) -> "list[Grid]":
        """A grid for each score that selects: what can be compared in one table."""
        return self._split(lambda row: row.measured.selected)

    def _split(self, key: Callable[[Row], Any]) -> "list[Grid]":
        keys = dict.fromkeys(map(key, self.rows))
        return [Grid([cell for cell in self.cells if key(cell.row) == one]) for one in keys]


def grid(runs: Iterable[Run]) -> Grid:
    """Sort runs into cells."""
    seeds: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.seed):
        seeds[run.configuration].append(run)
    configurations = list(seeds.values())
    rows = _rows([runs[0] for runs in configurations])
    columns = _columns([runs[0] for runs in configurations], rows)
    cells = [Cell(rows[runs[0].configuration], columns[runs[0].configuration], runs) for runs in configurations]
    return Grid(sorted(cells, key=lambda cell: (cell.row.rank, cell.column.order)))


def shown(columns: Columns) -> Columns:
    """Of what a task measures that which tables compare and curves show: the loss, and what selects.

    Where the loss itself selects, the first score is beside it. Where something was measured makes no difference.
    """
    scores = {replace(column, when=PARTS): None for column in (columns.score,) if column != columns.loss}
    return Columns(tuple(scores), columns.selects, replace(columns.loss, when=PARTS))


def _words(run: Run) -> tuple[str, str, str]:
    return run.summary["data"], run.summary["model"], run.summary["method"]


def _rows(runs: list[Run]) -> dict[str, Row]:
    """The row of every configuration, given a run of each."""
    rows = {}
    for same in grouped(runs, lambda run: _words(run)[:2]):
        keys = differing(same, lambda key: key.startswith(ROW) and key not in NOISE)
        for run in same:
            data, model, _ = _words(run)
            noise, kind = (run.settings.get(key) for key in NOISE)
            rows[run.configuration] = Row(
                labelled(data, _told([key for key in keys if key.startswith("data.")], run)),
                labelled(model, _told([key for key in keys if key.startswith("model.")], run)),
                printable(str(kind or "")),
                float(noise) if isinstance(noise, int | float) and 0 <= noise <= 1 else None,
                shown(run.columns),
            )
    return rows


def _columns(runs: list[Run], rows: dict[str, Row]) -> dict[str, Column]:
    """The column of every configuration.

    What differs within any cell of a method is told in all of its cells, and what differs within any row, beside what
    makes the methods, in all cells.
    """
    columns = {}
    methods = {run.configuration: method(_words(run)[2], run.settings) for run in runs}
    names = distinct(methods.values())
    across = {key for row in grouped(runs, lambda run: rows[run.configuration]) for key in differing(row, _is_aside)}
    for same in grouped(runs, lambda run: methods[run.configuration].word):
        cells = grouped(same, lambda run: rows[run.configuration])
        within = {key for cell in cells for key in differing(cell)}
        keys = _in_order({key for key in differing(same) if key in within} | across)
        for cell in cells:
            settings = [_told(keys, run, _radius(run, methods[run.configuration])) for run in cell]
            for number, (run, told) in enumerate(zip(cell, settings, strict=True)):
                if run.searched:
                    told = (*told, SEARCHED)
                elif settings.count(told) > 1:  # the same values by another way, such as a reference
                    place = f"{settings[:number].count(told) + 1} of {settings.count(told)}"
                    told = (*told, ("configuration", place))
                rank = tuple(_comparable(run.settings.get(key)) for key in keys)
                kind = methods[run.configuration]
                columns[run.configuration] = Column(kind, names[kind.word], told, (rank, told))
    return columns


def _is_aside(key: str) -> bool:
    """Whether a setting makes neither the row nor the method."""
    return not key.startswith((*METHOD, *ROW))


def grouped(things: Iterable[T], key: Callable[[T], Any]) -> list[list[T]]:
    """Things of the same key together, in the order of the first of each."""
    groups: dict[Any, list[T]] = defaultdict(list)
    for thing in things:
        groups[key(thing)].append(thing)
    return list(groups.values())


def differing(runs: list[Run], among: Callable[[str], bool] = lambda key: True) -> list[str]:
    """The settings in which configurations differ, in order; not those that only repeat another.

    What repeats the number of training steps does so too: epochs or batch size tell it.
    """
    keys = {key for run in runs for key in run.settings if among(key)}
    seen = {tuple(repr(run.total_steps) for run in runs)}
    kept = []
    for key in _in_order(keys):
        values = tuple(repr(run.settings.get(key, ABSENT)) for run in runs)
        if len(set(values)) > 1 and values not in seen:
            seen.add(values)
            kept.append(key)
    return kept


def _in_order(keys: Iterable[str]) -> list[str]:
    """Those with a short name first."""
    return sorted(keys, key=lambda key: (key != RHO and key not in SHORT, key.count("."), key))


def labelled(name: str, settings: Iterable[tuple[str, str]]) -> str:
    told = ", ".join(f"{key} = {value}" for key, value in settings)
    return f"{name} ({told})" if told else name


def _told(keys: Iterable[str], run: Run, radius: str = RHO) -> Told:
    return tuple((_short(key, radius), value_text(run.settings.get(key, ABSENT))) for key in keys)


def _radius(run: Run, method: Method) -> str:
    """What `sam.rho` is called."""
    if not method.moves:
        return RADIUS[0]
    return UNUSED if run.summary.get("rho_start") is None else RADIUS[1]


def _short(key: str, radius: str) -> str:
    return radius if key == RHO else SHORT.get(key, key.removeprefix("data.").removeprefix("model."))


def value_text(value: Any) -> str:
    """As on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else printable(str(value))


def _comparable(value: Any) -> tuple:
    number = isinstance(value, int | float)
    return (0, value, "") if number else (1, 0, str(value))
