"""Figures over a setting: accuracy over a fixed ρ beside moving ones, over where ρ starts, over label noise."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lets_runner.report.choice import few, note
from lets_runner.report.grid import RADIUS, Cell, Grid, Row, grouped
from lets_runner.report.panels import BAND, DASHES, Sheet, logarithmic, percent
from lets_runner.report.sample import sample
from lets_runner.report.trajectories import Styles, noise_title

RHO, NOISE = "sam.rho", "data.label_noise"

Line = list[Cell]  # cells that differ in one setting alone, in its order


def over_fixed_radius(grid: Grid, styles: Styles) -> Figure | None:
    """A row of panels for every variant that was tried with several fixed ρ. Over the same variant, where a rule moved
    ρ, a horizontal band, with its marker at the ρ that it started from.
    """
    fixed = [line for line in _lines(grid, RHO) if not line[0].column.method.moves]
    variants = sorted({_variant(line[0]) for line in fixed})
    if not variants:
        return None
    rows = [row for row in grid.rows if any(line[0].row == row for line in fixed)]
    title = "fixed ρ as lines; learned or scheduled ρ as bands, marked at their start"
    sheet = _sheet(grid, title, rows, len(variants))
    dashes = _dashes(fixed, RHO)
    for variant, panels in zip(variants, sheet.axes, strict=True):
        panels[0].set_ylabel(f"test accuracy, {variant}", fontsize=9)
        for row, axes in zip(rows, panels, strict=True):
            moving = [c for c in grid.cells if c.row == row and c.column.method.moves and _variant(c) == variant]
            lines = [line for line in fixed if line[0].row == row and _variant(line[0]) == variant]
            _draw_bands(sheet, axes, _positive(moving), styles)
            _draw_lines(sheet, axes, lines, RHO, styles, dashes)
            _radius_axis(axes, [*moving, *(cell for line in lines for cell in line)], "ρ")
    return sheet.finish()


def over_start(grid: Grid, styles: Styles) -> Figure | None:
    """Of the methods that move ρ and were started from several."""
    lines = [line for line in _lines(grid, RHO) if line[0].column.method.moves]
    if not lines:
        return None
    rows = [row for row in grid.rows if any(line[0].row == row for line in lines)]
    sheet = _sheet(grid, "test accuracy over where ρ starts", rows)
    dashes = _dashes(lines, RHO)
    for row, axes in zip(rows, sheet.axes[0], strict=True):
        here = [line for line in lines if line[0].row == row]
        _draw_lines(sheet, axes, here, RHO, styles, dashes)
        _radius_axis(axes, [cell for line in here for cell in line], "ρ₀")
    sheet.axes[0, 0].set_ylabel("test accuracy", fontsize=9)
    return sheet.finish()


def over_noise(grid: Grid, styles: Styles) -> Figure | None:
    """A panel for every kind of label noise."""
    panels: dict[str, list[Line]] = {}
    said: set[str] = set()
    for lines in grouped(_lines(grid, NOISE), lambda line: line[0].row.kind):
        columns, more = few([cell for line in lines for cell in line])
        panels[lines[0][0].row.kind] = [line for line in lines if line[0].column in columns]
        said |= more
    if not panels:
        return None
    kinds = sorted(panels)
    drawn = [line for kind in kinds for line in panels[kind]]
    row = grid.rows[0]
    sheet = Sheet(f"{row.data}, {row.model}: test accuracy over label noise", kinds)
    dashes = _dashes(drawn, NOISE)
    for kind, axes in zip(kinds, sheet.axes[0], strict=True):
        _draw_lines(sheet, axes, panels[kind], NOISE, styles, dashes)
        axes.set_xlabel("wrong labels in training and validation", fontsize=9)
        axes.set_xticks(sorted({100 * cell.settings[NOISE] for line in drawn for cell in line}))
        percent(axes.xaxis)
    sheet.axes[0, 0].set_ylabel("test accuracy", fontsize=9)
    return sheet.finish(note=note(said))


def _lines(grid: Grid, key: str) -> list[Line]:
    """Cells that differ in the setting `key` alone, two or more of them, in the order of the columns."""

    def others(cell: Cell) -> Any:
        rest = frozenset((name, repr(value)) for name, value in cell.settings.items() if name != key)
        return cell.column.method.word, rest

    cells = [cell for cell in grid.cells if isinstance(cell.settings.get(key), int | float)]
    if key == RHO:
        cells = _positive(cells)
    lines = [sorted(line, key=lambda cell: cell.settings[key]) for line in grouped(cells, others)]
    return sorted((line for line in lines if len(line) > 1), key=lambda line: line[0].column.order)


def _positive(cells: list[Cell]) -> list[Cell]:
    """Those that a logarithmic axis of ρ has a place for."""
    return [cell for cell in cells if cell.settings[RHO] > 0]


def _variant(cell: Cell) -> str:
    return str(cell.settings.get("sam._target_", "")).rsplit(".", 1)[-1]


def _sheet(grid: Grid, what: str, rows: list[Row], lines: int = 1) -> Sheet:
    return Sheet(f"{rows[0].data}, {rows[0].model}: {what}", [noise_title(row) for row in rows], lines)


def _label(line: Line, key: str) -> str:
    return line[0].column.label_without(RADIUS if key == RHO else ())


def _dashes(lines: list[Line], key: str) -> dict[str, str]:
    """Lines of one method share its colour, and differ in their dashes: by label, the same in every panel."""
    dashes: dict[str, str] = {}
    for same in grouped(lines, lambda line: line[0].column.method.word):
        labels = dict.fromkeys(_label(line, key) for line in same)
        dashes |= {label: DASHES[number % len(DASHES)] for number, label in enumerate(labels)}
    return dashes


def _draw_lines(sheet: Sheet, axes: Axes, lines: list[Line], key: str, styles: Styles, dashes: dict[str, str]) -> None:
    """Test accuracy over `key`: means, with bars of one standard deviation."""
    scale = 100 if key == NOISE else 1
    for line in lines:
        column, label = line[0].column, _label(line, key)
        style = styles[column.method.word]
        samples = [one for cell in line if (one := sample(cell.accuracy))]
        handle = axes.errorbar(
            [scale * cell.settings[key] for cell in line],
            [one.mean for one in samples],
            [one.sd or 0 for one in samples],
            color=style.colour,
            marker=style.marker,
            linestyle=dashes[label],
            markersize=5,
            linewidth=1.4,
            capsize=2,
        )
        sheet.name(column, label, handle)
    percent(axes.yaxis)


def _draw_bands(sheet: Sheet, axes: Axes, cells: list[Cell], styles: Styles) -> None:
    """Test accuracy as horizontal lines, with bands of one standard deviation, and markers at the ρ they started at."""
    for cell in cells:
        one = sample(cell.accuracy)
        assert one is not None
        style = styles[cell.column.method.word]
        axes.axhspan(
            one.mean - (one.sd or 0), one.mean + (one.sd or 0), color=style.colour, alpha=BAND / 2, linewidth=0
        )
        axes.axhline(one.mean, color=style.colour, linewidth=0.8, alpha=0.6)
        [handle] = axes.plot(
            [cell.settings[RHO]], [one.mean], color=style.colour, marker=style.marker, linewidth=0.8, markersize=6
        )
        sheet.name(cell.column, cell.column.label_without(RADIUS), handle)


def _radius_axis(axes: Axes, cells: list[Cell], label: str) -> None:
    logarithmic(axes, "x", sorted({cell.settings[RHO] for cell in _positive(cells)}))
    axes.set_xlabel(label, fontsize=9)
