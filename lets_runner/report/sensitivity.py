"""Figures over a setting: the score over a fixed ρ beside moving ones, over where ρ starts, over label noise."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lets_runner.columns import Column as Score
from lets_runner.report.choice import few, note
from lets_runner.report.grid import RADIUS, RHO, Cell, Grid, Row, grouped
from lets_runner.report.panels import BAND, DASHES, Look, Sheet, logarithmic, looks_of, percent, show_unit
from lets_runner.report.sample import Sample, sample
from lets_runner.report.scales import beside, focus, magnify
from lets_runner.report.trajectories import Styles, noise_title, titled

NOISE = "data.label_noise"
SQUEEZED = "On grey, heights are drawn closer together."
EDGE, NEXT = 0.97, 0.05  # of the width: where rules without a start have their markers, and from one to the next

Line = list[Cell]  # cells that differ in one setting alone, in its order


def over_fixed_radius(grid: Grid, styles: Styles) -> Figure | None:
    """A row of panels for every variant that was tried with several fixed ρ. Over the same variant, where a rule moved
    ρ, a horizontal band, with its marker at the ρ that it started from, or at the edge if it starts from none.
    """
    fixed = [line for line in _lines(grid, RHO) if not line[0].column.method.moves]
    variants = sorted({_variant(line[0]) for line in fixed})
    if not variants:
        return None
    rows = [row for row in grid.rows if any(line[0].row == row for line in fixed)]
    sheet = _sheet("fixed ρ as lines; learned or scheduled ρ as bands, marked at their start", rows, len(variants))
    dashes, looks = _dashes(fixed, RHO), _band_looks(_moving(grid), styles)
    squeezed = False
    for variant, panels in zip(variants, sheet.axes, strict=True):
        panels[0].set_ylabel(f"{_title(grid)}, {variant}", fontsize=9)
        for row, axes in zip(rows, panels, strict=True):
            moving = [
                c for c in _known(grid.cells) if c.row == row and c.column.method.moves and _variant(c) == variant
            ]
            lines = [line for line in fixed if line[0].row == row and _variant(line[0]) == variant]
            there = [*moving, *(cell for line in lines for cell in line)]
            _draw_bands(sheet, axes, moving, _places(there, RHO), looks)
            _draw_lines(sheet, axes, lines, RHO, styles, dashes)
            _radius_axis(axes, there, "ρ")
            squeezed |= _magnify(axes, lines, moving)
            show_unit(axes.yaxis, _score(grid))
    return sheet.finish(note=SQUEEZED if squeezed else "")


def _magnify(axes: Axes, lines: list[Line], moving: list[Cell]) -> bool:
    """Show the bands, and the best of the fixed radii, apart, wherever the worst of these are."""
    sign = (moving or lines[0])[0].selected.sign
    best = [max((_span(cell) for cell in line), key=lambda span: sign * sum(span)) for line in lines]
    spans = [*best, *map(_span, moving)]
    every = [*spans, *(_span(cell) for line in lines for cell in line)]
    top = max((sum(span) / 2 for span in spans), key=lambda height: sign * height)
    return magnify(axes, focus(top, spans), (min(low for low, _ in every), max(high for _, high in every)))


def _span(cell: Cell) -> tuple[float, float]:
    """The mean less and more one standard deviation."""
    one = _sample(cell)
    return one.mean - (one.sd or 0), one.mean + (one.sd or 0)


def over_start(grid: Grid, styles: Styles) -> Figure | None:
    """Of the methods that move ρ and were started from several."""
    lines = [line for line in _lines(grid, RHO) if line[0].column.method.moves]
    if not lines:
        return None
    rows = [row for row in grid.rows if any(line[0].row == row for line in lines)]
    sheet = _sheet(f"{_title(grid)} over where ρ starts", rows)
    dashes = _dashes(lines, RHO)
    for row, axes in zip(rows, sheet.axes[0], strict=True):
        here = [line for line in lines if line[0].row == row]
        _draw_lines(sheet, axes, here, RHO, styles, dashes)
        _radius_axis(axes, [cell for line in here for cell in line], "ρ₀")
    sheet.axes[0, 0].set_ylabel(_title(grid), fontsize=9)
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
    sheet = Sheet(titled(grid.rows[0], f"{_title(grid)} over label noise"), kinds)
    dashes = _dashes(drawn, NOISE)
    for kind, axes in zip(kinds, sheet.axes[0], strict=True):
        _draw_lines(sheet, axes, panels[kind], NOISE, styles, dashes)
        axes.set_xlabel("wrong labels in training and validation", fontsize=9)
        axes.set_xticks(sorted({100 * (cell.row.noise or 0.0) for line in drawn for cell in line}))
        percent(axes.xaxis)
    sheet.axes[0, 0].set_ylabel(_title(grid), fontsize=9)
    return sheet.finish(note=note(said, _score(grid)))


def _lines(grid: Grid, key: str) -> list[Line]:
    """Cells that differ in the setting `key` alone, two or more of them, in the order of the columns."""

    def others(cell: Cell) -> Any:
        rest = frozenset((name, repr(value)) for name, value in cell.settings.items() if name != key)
        return cell.column.method.word, rest

    cells = [cell for cell in _known(grid.cells) if _place(cell, key) is not None]
    lines = [sorted(line, key=lambda cell: _place(cell, key) or 0.0) for line in grouped(cells, others)]
    return sorted((line for line in lines if len(line) > 1), key=lambda line: line[0].column.order)


def _place(cell: Cell, key: str) -> float | None:
    """Where on the axis of `key` a cell has its place; None if it has none."""
    if key == NOISE:
        return None if cell.row.noise is None else 100 * cell.row.noise
    rho = cell.start if cell.column.method.moves else cell.settings.get(RHO)
    return rho if isinstance(rho, int | float) and 0 < rho < float("inf") else None  # the axis is logarithmic


def _places(cells: list[Cell], key: str) -> list[float]:
    return [place for cell in cells if (place := _place(cell, key)) is not None]


def _known(cells: list[Cell]) -> list[Cell]:
    """Those with a score on the test set."""
    return [cell for cell in cells if sample(cell.scores("test"))]


def _moving(grid: Grid) -> list[Cell]:
    return [cell for cell in _known(grid.cells) if cell.column.method.moves]


def _sample(cell: Cell) -> Sample:
    one = sample(cell.scores("test"))
    assert one is not None
    return one


def _score(grid: Grid) -> Score:
    return grid.rows[0].measured.selected


def _title(grid: Grid) -> str:
    return f"test {_score(grid).title}"


def _variant(cell: Cell) -> str:
    return str(cell.settings.get("sam._target_", "")).rsplit(".", 1)[-1]


def _sheet(what: str, rows: list[Row], lines: int = 1) -> Sheet:
    return Sheet(titled(rows[0], what), [noise_title(row) for row in rows], lines)


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
    """The score over `key`: means, with bars of one standard deviation."""
    extent = _places([cell for line in lines for cell in line], key)
    for number, line in enumerate(lines):
        column, label = line[0].column, _label(line, key)
        style, samples = styles[column.method.word], [_sample(cell) for cell in line]
        handle = axes.errorbar(
            beside(_places(line, key), number, len(lines), extent, logarithmic=key == RHO),
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
        show_unit(axes.yaxis, line[0].selected)


def _band_looks(cells: list[Cell], styles: Styles) -> dict[str, Look]:
    """By label: settings of one method in paler and paler tones; the start is where the marker is."""
    first = {_band_label(cell): cell.column for cell in reversed(cells)}
    looks = looks_of(sorted(first.values(), key=lambda column: column.order), styles)
    return {label: looks[column] for label, column in first.items()}


def _band_label(cell: Cell) -> str:
    return cell.column.label_without(RADIUS)


def _draw_bands(sheet: Sheet, axes: Axes, cells: list[Cell], extent: list[float], looks: dict[str, Look]) -> None:
    """Scores as horizontal lines, with bands of one standard deviation, and markers at the ρ they started at."""
    for cell in cells:
        low, high = _span(cell)
        tone = looks[_band_label(cell)].tone
        axes.axhspan(low, high, color=tone, alpha=BAND / 2, linewidth=0)
        axes.axhline((low + high) / 2, color=tone, linewidth=0.8, alpha=0.6)
    for same in grouped(cells, lambda cell: _place(cell, RHO)):
        for number, cell in enumerate(same):
            start, label = _place(cell, RHO), _band_label(cell)
            look = looks[label]
            x = (
                [EDGE - NEXT * number]
                if start is None
                else beside([start], number, len(same), extent, logarithmic=True)
            )
            across = axes.transData if start is not None else axes.get_yaxis_transform()
            [handle] = axes.plot(
                x,
                [_sample(cell).mean],
                color=look.tone,
                marker=look.marker,
                linewidth=0.8,
                markersize=6,
                transform=across,
            )
            sheet.name(cell.column, label if start is not None else f"{label}, no start", handle)


def _radius_axis(axes: Axes, cells: list[Cell], label: str) -> None:
    logarithmic(axes, "x", sorted({*_places(cells, RHO)}))
    axes.set_xlabel(label, fontsize=9)
