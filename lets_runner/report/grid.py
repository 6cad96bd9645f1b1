"""Runs in order: rows of data × model × label noise, columns of methods, in every cell the seeds of one configuration.

Configurations are never averaged together. Where they differ in more than row and method, the settings in which they
differ join the label: those of data and model the row's, all others the column's.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from lets_runner.report.methods import Method, distinct, method
from lets_runner.report.runs import Run, Settings

NOISE = ("data.label_noise", "data.noise")
SHORT = {"optimizer.lr": "lr"}
RADIUS = ("ρ", "ρ₀")  # fixed, and where a moving one starts
ABSENT = "–"

T = TypeVar("T")
Told = tuple[tuple[str, str], ...]  # settings and their values, as people read them


@dataclass(frozen=True)
class Row:
    """`noise`: share of wrong labels, None where the data know of none; `kind` of noise."""

    data: str
    model: str
    kind: str
    noise: float | None

    @property
    def label(self) -> str:
        """The noise alone."""
        if self.noise is None:
            return ABSENT
        return f"{self.noise * 100:g} %" + (f" {self.kind}" if self.kind not in ("", "symmetric") else "")

    @property
    def rank(self) -> tuple:
        return self.data, self.model, self.kind, -1 if self.noise is None else self.noise


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
    def accuracy(self) -> np.ndarray:
        """On the test set after the last epoch, in %."""
        return 100 * self.numbers("test_accuracy")

    def epochs(self, name: str) -> np.ndarray | None:
        """A column of `epochs.csv`, of shape (seeds, epochs); None where a seed lacks it or it is empty."""
        columns = [run.epochs.get(name) for run in self.runs]
        if any(column is None or not np.isfinite(column).any() for column in columns):
            return None
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
        """A grid for each data set and model: what figures are drawn of."""
        names = dict.fromkeys((row.data, row.model) for row in self.rows)
        return [Grid([c for c in self.cells if (c.row.data, c.row.model) == name]) for name in names]


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


def _words(run: Run) -> tuple[str, str, str]:
    return run.summary["data"], run.summary["model"], run.summary["method"]


def _rows(runs: list[Run]) -> dict[str, Row]:
    """The row of every configuration, given a run of each."""
    rows = {}
    for same in grouped(runs, lambda run: _words(run)[:2]):
        keys = [key for key in differing(same) if key not in NOISE]
        for run in same:
            data, model, _ = _words(run)
            noise, kind = (run.settings.get(key) for key in NOISE)
            rows[run.configuration] = Row(
                labelled(data, _told([key for key in keys if key.startswith("data.")], run)),
                labelled(model, _told([key for key in keys if key.startswith("model.")], run)),
                str(kind or ""),
                float(noise) if isinstance(noise, int | float) else None,
            )
    return rows


def _columns(runs: list[Run], rows: dict[str, Row]) -> dict[str, Column]:
    """The column of every configuration. What differs within any cell of a method is told in all of its cells."""
    columns = {}
    methods = {run.configuration: method(_words(run)[2], run.settings) for run in runs}
    names = distinct(methods.values())
    for same in grouped(runs, lambda run: methods[run.configuration].word):
        cells = grouped(same, lambda run: rows[run.configuration])
        within = {key for cell in cells for key in differing(cell)}
        keys = [key for key in differing(same) if key in within]
        for cell in cells:
            settings = [_told(keys, run, moves=methods[run.configuration].moves) for run in cell]
            for run, told in zip(cell, settings, strict=True):
                if settings.count(told) > 1:  # the same values by another way: only the hash tells them apart
                    told = (*told, ("configuration", run.configuration[:8]))
                rank = tuple(_comparable(run.settings.get(key)) for key in keys)
                kind = methods[run.configuration]
                columns[run.configuration] = Column(kind, names[kind.word], told, (rank, told))
    return columns


def grouped(things: Iterable[T], key: Callable[[T], Any]) -> list[list[T]]:
    """Things of the same key together, in the order of the first of each."""
    groups: dict[Any, list[T]] = defaultdict(list)
    for thing in things:
        groups[key(thing)].append(thing)
    return list(groups.values())


def differing(runs: list[Run]) -> list[str]:
    """The settings in which configurations differ, those with a short name first; not those that only repeat another.

    What repeats the number of training steps does so too: epochs or batch size tell it.
    """
    keys = {key for run in runs for key in run.settings}
    seen = {tuple(repr(run.total_steps) for run in runs)}
    kept = []
    for key in sorted(keys, key=lambda key: (key != "sam.rho" and key not in SHORT, key.count("."), key)):
        values = tuple(repr(run.settings.get(key, ABSENT)) for run in runs)
        if len(set(values)) > 1 and values not in seen:
            seen.add(values)
            kept.append(key)
    return kept


def labelled(name: str, settings: Iterable[tuple[str, str]]) -> str:
    told = ", ".join(f"{key} = {value}" for key, value in settings)
    return f"{name} ({told})" if told else name


def _told(keys: Iterable[str], run: Run, *, moves: bool = False) -> Told:
    return tuple((_short(key, moves=moves), _value(run.settings.get(key, ABSENT))) for key in keys)


def _short(key: str, *, moves: bool) -> str:
    return RADIUS[moves] if key == "sam.rho" else SHORT.get(key, key.removeprefix("data.").removeprefix("model."))


def _value(value: Any) -> str:
    """As on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _comparable(value: Any) -> tuple:
    number = isinstance(value, int | float)
    return (0, value, "") if number else (1, 0, str(value))
