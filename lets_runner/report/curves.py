"""`curves.png`: what a run did, in four panels."""

import csv
import math
from itertools import accumulate
from pathlib import Path

from lets_runner.columns import PARTS, Column, Columns
from lets_runner.report.foreign import printable
from lets_runner.run.files import CURVES, write_whole

Numbers = dict[str, list[float]]

WINDOW = 0.02  # share of the steps over which the noisy gap is averaged
POINTS = 10_000  # of a line over steps, at most: more take long to draw and show nothing


def draw_curves(directory: Path, columns: Columns) -> Path:
    """Draw the score and the loss over epochs, radius and gap over steps; returns the picture's path."""
    from matplotlib.figure import Figure

    epochs, steps = read_columns(directory / "epochs.csv"), read_columns(directory / "steps.csv")
    figure = Figure(figsize=(10, 6), layout="constrained")
    above, (radius, gap) = figure.subplots(2, 2)
    for axes, column in zip(above, (columns.score, columns.loss), strict=True):
        for part in PARTS:
            if known(epochs.get(f"{part}_{column.name}", [])):
                axes.plot(epochs["epoch"], epochs[f"{part}_{column.name}"], label={"val": "validation"}.get(part, part))
        axes.set_title(column.title, parse_math=False)
        axes.set_xlabel("epoch")
        format_axis(axes.yaxis, column)
        _legend(axes)

    thin = slice(None, None, max(1, len(steps.get("step", [])) // POINTS))
    radius.set(title="radius ρ", xlabel="step")
    if known(steps.get("rho", [])):
        radius.plot(steps["step"][thin], steps["rho"][thin], color="tab:red")
        radius.set_yscale("log")
        label_decades(radius.yaxis)
    _draw_gap(gap, epochs, steps, thin)
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    names = directory.absolute().parts[-3::2]  # of <names>/<hash>/<seed>
    figure.suptitle(", ".join(map(printable, names)), parse_math=False)
    path = directory / CURVES
    write_whole(path, lambda file: figure.savefig(file, dpi=110, format="png"))
    return path


def _draw_gap(axes, epochs: Numbers, steps: Numbers, thin: slice) -> None:
    """Over steps where a radius rule had it, else over epochs."""
    title = "validation loss − training loss"
    if not known(steps.get("gap", [])):
        axes.set(title=title, xlabel="epoch")
        if known(epochs.get("gap", [])):
            axes.plot(epochs["epoch"], epochs["gap"], color="tab:purple")
        return
    axes.set(title=f"{title}, per step", xlabel="step")
    number, values, width = steps["step"][thin], steps["gap"], max(1, round(WINDOW * len(steps["gap"])))
    axes.plot(number, values[thin], color="tab:gray", alpha=0.3, linewidth=0.5, label="minibatch")
    axes.plot(number, running_mean(values, width)[thin], color="tab:purple", label=f"mean of {width} steps")
    _legend(axes)


def read_columns(path: Path) -> Numbers:
    """A csv file as columns of numbers, nan where a cell is empty; no columns without the file, or without a row.

    Raises:
        ValueError: a row is longer or shorter than the header, or a cell no number.
    """
    if not path.exists():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        numbers = [[float(cell or "nan") for cell in row] for row in rows]
    columns = [list(column) for column in zip(*numbers, strict=True)]
    return dict(zip(header, columns, strict=True)) if numbers else {}


def format_axis(axis, column: Column) -> None:
    """Write shares as percentages; other numbers stay as they are."""
    from matplotlib.ticker import PercentFormatter

    if column.unit == "%":
        axis.set_major_formatter(PercentFormatter(1.0))


def known(values: list[float]) -> bool:
    """Whether there is anything to draw."""
    return any(math.isfinite(value) for value in values)


def running_mean(values: list[float], width: int) -> list[float]:
    """The mean of the last `width` values that are numbers; nan before the first."""
    sums = [0.0, *accumulate(filter(math.isfinite, values))]
    counts = accumulate(map(int, map(math.isfinite, values)))
    return [(sums[n] - sums[max(0, n - width)]) / min(n, width) if n else math.nan for n in counts]


def label_decades(axis) -> None:
    """Write plain numbers on a logarithmic axis; at 1, 2 and 5 alone where there is room for no more."""
    from matplotlib.ticker import FuncFormatter

    low, high = axis.get_view_interval()

    def label(value: float, _: int) -> str:
        return f"{value:g}" if high < 4 * low or f"{value:e}"[0] in "125" else ""

    axis.set_major_formatter(FuncFormatter(label))
    axis.set_minor_formatter(FuncFormatter(label))


def _legend(axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
