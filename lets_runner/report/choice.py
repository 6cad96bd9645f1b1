"""Where a panel has more lines than an eye can follow: of every method one setting."""

import math
from collections.abc import Iterable

import numpy as np

from lets_runner.report.grid import Cell, Column, Grid, grouped

SHOWN = 12  # lines in a panel that an eye can follow
BEST = "Of each method the setting with the highest validation accuracy."
FIRST = "Where no validation accuracy tells a method's settings apart, the first of them."


def few(cells: list[Cell]) -> tuple[list[Column], set[str]]:
    """The columns of `cells` that a panel shows, and what is to be said of them.

    They are all shown up to `SHOWN`. Beyond, the settings of a method are compared on the rows that all of them have:
    the mean over other rows would favour a setting that was also tried where the task is easier.
    """
    grid = Grid(cells)
    if len(grid.columns) <= SHOWN:
        return grid.columns, set()
    chosen, said = [], set()
    for columns in grouped(grid.columns, lambda column: column.method.word):
        accuracies = _validation(grid, columns)
        chosen.append(max(columns, key=accuracies.__getitem__))
        if len(columns) > 1:
            said.add(FIRST if max(accuracies.values()) == -math.inf else BEST)
    return chosen, said


def note(said: Iterable[str]) -> str:
    """What is to be said of all panels of a figure."""
    return " ".join(text for text in (BEST, FIRST) if text in said)


def _validation(grid: Grid, columns: list[Column]) -> dict[Column, float]:
    """The mean over seeds and common rows; −∞ where it is not known."""
    rows = [row for row in grid.rows if all((row, column) in grid.at for column in columns)]
    found = {}
    for column in columns:
        means = [grid.at[row, column].numbers("val_accuracy").mean() for row in rows]
        found[column] = float(np.mean(means)) if means and not np.isnan(means).any() else -math.inf
    return found
