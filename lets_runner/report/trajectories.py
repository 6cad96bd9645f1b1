"""Figures over epochs: score and loss, the radius, the generalization gap. A panel for every label noise."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lets_runner.columns import Column as Score
from lets_runner.report.choice import SHOWN, few, note
from lets_runner.report.grid import Cell, Column, Grid, Row, grouped
from lets_runner.report.methods import Style
from lets_runner.report.panels import Look, Sheet, brief, curve, geometric_curve, logarithmic, looks_of, show_unit

Styles = dict[str, Style]
PARTS = {"test": "test", "val": "validation", "train": "training"}


def score_and_loss(grid: Grid, styles: Styles) -> Figure | None:
    """On the test set where it was measured every epoch, else on validation, else in training."""
    measured = grid.rows[0].measured
    shown = list(dict.fromkeys((measured.score, measured.loss)))
    part = next((part for part in PARTS if all(_has(cell, part, shown) for cell in grid.cells)), None)
    if part is None:
        return None
    what = " and ".join(score.words for score in shown)
    sheet = _sheet(grid, f"{PARTS[part]} {what}", rows=len(shown), between=0.2)
    drawn, said = _drawn(grid, styles)
    for row, panels in zip(grid.rows, sheet.axes.T, strict=True):
        for score, axes in zip(shown, panels, strict=True):
            for cell, look in drawn[row]:
                values = score.factor * _epochs(cell, f"{part}_{score.name}")
                line = curve(axes, cell.runs[0].epochs["epoch"], values, look)
                sheet.name(cell.column, cell.column.label, line)
            show_unit(axes.yaxis, score)
            axes.tick_params(labelbottom=score is shown[-1])
        panels[-1].set_xlabel("epoch", fontsize=9)
    for score, axes in zip(shown, sheet.axes[:, 0], strict=True):
        axes.set_ylabel(f"{PARTS[part]} {score.title}", fontsize=9)
    return sheet.finish(note=said)


def gap(grid: Grid, styles: Styles) -> Figure | None:
    """Validation loss − training loss after every epoch."""
    if not any(cell.epochs("gap") is not None for cell in grid.cells):
        return None
    sheet = _sheet(grid, "generalization gap")
    drawn, said = _drawn(grid, styles)
    for row, axes in zip(grid.rows, sheet.axes[0], strict=True):
        for cell, look in drawn[row]:
            if (values := cell.epochs("gap")) is not None:
                line = curve(axes, cell.runs[0].epochs["epoch"], values, look)
                sheet.name(cell.column, cell.column.label, line)
        axes.set_xlabel("epoch", fontsize=9)
    sheet.axes[0, 0].set_ylabel("validation − training loss", fontsize=9)
    return sheet.finish(note=said)


def radius(grid: Grid, styles: Styles) -> Figure | None:
    """ρ from its start on, of the methods that move it: every setting, since where it starts is the point.

    Where there are many, the first and the last of a method stand in the legend, and the others between them.
    """
    moving = Grid([cell for cell in grid.cells if _moves(cell)])
    if not moving.cells:
        return None
    sheet = _sheet(moving, "radius ρ: geometric mean over seeds")
    looks = looks_of(moving.columns, styles)
    named = moving.columns if len(moving.columns) <= SHOWN else _ends(moving.columns)
    for row, axes in zip(moving.rows, sheet.axes[0], strict=True):
        for column in moving.columns:
            if cell := moving.at.get((row, column)):
                line = geometric_curve(axes, *_radius(cell), looks[column])
                if column in named:
                    sheet.name(column, column.label, line)
        logarithmic(axes, "y")
        axes.set_xlabel("epoch", fontsize=9)
    sheet.axes[0, 0].set_ylabel("ρ", fontsize=9)
    return sheet.finish()


def _ends(columns: list[Column]) -> list[Column]:
    """The first and the last setting of every method."""
    methods = grouped(columns, lambda column: column.method.word)
    return [column for same in methods for column in (same[0], same[-1])]


def _moves(cell: Cell) -> bool:
    values = cell.epochs("rho")
    return cell.column.method.moves and values is not None and bool((values > 0).any())


def _radius(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and ρ after each of them, with where it started as epoch 0."""
    start = cell.numbers("rho_start")[:, None]
    epoch = cell.runs[0].epochs["epoch"]
    return np.concatenate([[0.0], epoch]), np.concatenate([start, _epochs(cell, "rho")], axis=1)


def _sheet(grid: Grid, what: str, **form: Any) -> Sheet:
    return Sheet(titled(grid.rows[0], what), [noise_title(row) for row in grid.rows], **form)


def titled(row: Row, what: str) -> str:
    return f"{brief(row.data)}, {brief(row.model)}: {what}"


def noise_title(row: Row) -> str:
    return "" if row.noise is None else f"label noise {row.label}"


def _drawn(grid: Grid, styles: Styles) -> tuple[dict[Row, list[tuple[Cell, Look]]], str]:
    """The cells of every row that are few enough to draw, each with the look of its line; and the figure's note."""
    chosen = {row: few([cell for cell in grid.cells if cell.row == row]) for row in grid.rows}
    anywhere = {column for columns, _ in chosen.values() for column in columns}
    looks = looks_of([column for column in grid.columns if column in anywhere], styles)
    drawn = {row: [(grid.at[row, column], looks[column]) for column in columns] for row, (columns, _) in chosen.items()}
    return drawn, note(set().union(*(said for _, said in chosen.values())), grid.rows[0].measured.selected)


def _has(cell: Cell, part: str, scores: list[Score]) -> bool:
    return all(cell.epochs(f"{part}_{score.name}") is not None for score in scores)


def _epochs(cell: Cell, name: str) -> np.ndarray:
    values = cell.epochs(name)
    assert values is not None
    return values
