"""Figures over epochs: accuracy and loss, the radius, the generalization gap. A panel for every label noise."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lets_runner.report.choice import SHOWN, few, note
from lets_runner.report.grid import Cell, Column, Grid, Row
from lets_runner.report.methods import Style
from lets_runner.report.panels import DASHES, Sheet, curve, geometric_curve, logarithmic, percent

Styles = dict[str, Style]
PARTS = {"test": "test", "val": "validation", "train": "training"}


def accuracy_and_loss(grid: Grid, styles: Styles) -> Figure | None:
    """On the test set where it was measured every epoch, else on validation, else in training."""
    part = next((part for part in PARTS if all(_has(cell, part) for cell in grid.cells)), None)
    if part is None:
        return None
    sheet = _sheet(grid, f"{PARTS[part]} accuracy and loss", rows=2, between=0.2)
    drawn, said = _drawn(grid)
    for row, (above, below) in zip(grid.rows, sheet.axes.T, strict=True):
        for cell, dash in drawn[row]:
            style = styles[cell.column.method.word]
            epoch = cell.runs[0].epochs["epoch"]
            line = curve(above, epoch, 100 * _epochs(cell, f"{part}_accuracy"), style, dash)
            curve(below, epoch, _epochs(cell, f"{part}_loss"), style, dash)
            sheet.name(cell.column, cell.column.label, line)
        percent(above.yaxis)
        above.tick_params(labelbottom=False)
        below.set_xlabel("epoch", fontsize=9)
    sheet.axes[0, 0].set_ylabel(f"{PARTS[part]} accuracy", fontsize=9)
    sheet.axes[1, 0].set_ylabel(f"{PARTS[part]} loss", fontsize=9)
    return sheet.finish(note=said)


def gap(grid: Grid, styles: Styles) -> Figure | None:
    """Validation loss − training loss after every epoch."""
    if not any(cell.epochs("gap") is not None for cell in grid.cells):
        return None
    sheet = _sheet(grid, "generalization gap")
    drawn, said = _drawn(grid)
    for row, axes in zip(grid.rows, sheet.axes[0], strict=True):
        for cell, dash in drawn[row]:
            if (values := cell.epochs("gap")) is not None:
                line = curve(axes, cell.runs[0].epochs["epoch"], values, styles[cell.column.method.word], dash)
                sheet.name(cell.column, cell.column.label, line)
        axes.set_xlabel("epoch", fontsize=9)
    sheet.axes[0, 0].set_ylabel("validation − training loss", fontsize=9)
    return sheet.finish(note=said)


def radius(grid: Grid, styles: Styles) -> Figure | None:
    """ρ from its start on, of the methods that move it: every setting, since where it starts is the point."""
    moving = Grid([cell for cell in grid.cells if _moves(cell)])
    if not moving.cells:
        return None
    sheet = _sheet(moving, "radius ρ: geometric mean over seeds")
    dashes = _dashes(moving.columns)
    many = len(moving.columns) > SHOWN
    for row, axes in zip(moving.rows, sheet.axes[0], strict=True):
        for column in moving.columns:
            if cell := moving.at.get((row, column)):
                epoch, values = _radius(cell)
                line = geometric_curve(axes, epoch, values, styles[column.method.word], dashes[column])
                sheet.name(column, column.name if many else column.label, line)
        logarithmic(axes, "y")
        axes.set_xlabel("epoch", fontsize=9)
    sheet.axes[0, 0].set_ylabel("ρ", fontsize=9)
    return sheet.finish()


def _moves(cell: Cell) -> bool:
    values = cell.epochs("rho")
    return cell.column.method.moves and values is not None and bool((values > 0).any())


def _radius(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and ρ after each of them, with where it started as epoch 0."""
    start = cell.numbers("rho_start")[:, None]
    epoch = cell.runs[0].epochs["epoch"]
    return np.concatenate([[0.0], epoch]), np.concatenate([start, _epochs(cell, "rho")], axis=1)


def _sheet(grid: Grid, what: str, **form: Any) -> Sheet:
    row = grid.rows[0]
    return Sheet(f"{row.data}, {row.model}: {what}", [noise_title(row) for row in grid.rows], **form)


def noise_title(row: Row) -> str:
    return "" if row.noise is None else f"label noise {row.label}"


def _drawn(grid: Grid) -> tuple[dict[Row, list[tuple[Cell, str]]], str]:
    """The cells of every row that are few enough to draw, each with the dashes of its line; and the figure's note."""
    shown = {row: few([cell for cell in grid.cells if cell.row == row]) for row in grid.rows}
    anywhere = {column for columns, _ in shown.values() for column in columns}
    dashes = _dashes([column for column in grid.columns if column in anywhere])
    drawn = {row: [(grid.at[row, column], dashes[column]) for column in columns] for row, (columns, _) in shown.items()}
    return drawn, note(set().union(*(said for _, said in shown.values())))


def _dashes(columns: list[Column]) -> dict[Column, str]:
    """Settings of one method share its colour, and differ in their dashes."""
    seen: dict[str, int] = {}
    dashes = {}
    for column in columns:
        number = seen[column.method.word] = seen.get(column.method.word, -1) + 1
        dashes[column] = DASHES[number % len(DASHES)]
    return dashes


def _has(cell: Cell, part: str) -> bool:
    return cell.epochs(f"{part}_accuracy") is not None and cell.epochs(f"{part}_loss") is not None


def _epochs(cell: Cell, name: str) -> np.ndarray:
    values = cell.epochs(name)
    assert values is not None
    return values
