"""Where a panel has more lines than an eye can follow: of every method one setting."""

import math
from collections.abc import Iterable

import numpy as np

from lets_runner.columns import Column as Score
from lets_runner.report.grid import Cell, Column, Grid, grouped

SHOWN = 12  # lines in a panel that an eye can follow
BEST = "Of each method the setting with the {superlative} validation {words}."
FIRST = "Where no validation {words} tells a method's settings apart, the first of them."


def few(cells: list[Cell]) -> tuple[list[Column], set[str]]:
    """The columns of `cells` that a panel shows, and what `note` shall say of them.

    They are all shown up to `SHOWN`. Beyond, the settings of a method are compared on the rows that all of them have:
    the mean over other rows would favour a setting that was also tried where the task is easier.
    """
    grid = Grid(cells)
    if len(grid.columns) <= SHOWN:
        return grid.columns, set()
    chosen, said = [], set()
    for columns in grouped(grid.columns, lambda column: column.method.word):
        goodness = _validation(grid, columns)
        chosen.append(max(columns, key=goodness.__getitem__))
        if len(columns) > 1:
            said.add(FIRST if max(goodness.values()) == -math.inf else BEST)
    return chosen, said


def note(said: Iterable[str], score: Score) -> str:
    """What is to be said of all panels of a figure."""
    return " ".join(
        text.format(superlative=score.superlative, words=score.words) for text in (BEST, FIRST) if text in said
    )


def _validation(grid: Grid, columns: list[Column]) -> dict[Column, float]:
    """How good the mean over seeds and common rows is, more being better; −∞ where it is not known."""
    rows = [row for row in grid.rows if all((row, column) in grid.at for column in columns)]
    found = {}
    for column in columns:
        cells = [grid.at[row, column] for row in rows]
        means = [cell.selected.sign * cell.scores("val").mean() for cell in cells]
        found[column] = float(np.mean(means)) if means and not np.isnan(means).any() else -math.inf
    return found
