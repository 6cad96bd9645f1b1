"""Panels side by side with one legend under them: the paper that every figure of a report is drawn on.

Margins and the places of labels are counted in inches. Left to find them, Matplotlib measures every word several times,
which in a report of many figures is a good part of the time.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from lets_runner.columns import Column as Score
from lets_runner.report.curves import label_decades
from lets_runner.report.grid import Column, grouped
from lets_runner.report.methods import Style

WIDTH, HEIGHT = 2.75, 2.3  # inches, of a panel's axes
LEFT, RIGHT, TOP, BOTTOM = 0.75, 0.15, 0.65, 0.55  # around all of them
BESIDE, ABOVE = 0.62, 0.6  # between axes side by side, and one above another
XLABEL, YLABEL = 0.3, 0.5  # from the axes to where the labels begin
LETTER, LEGEND_LINE, HANDLE = 0.082, 0.2, 0.55  # of a legend: width of a letter, height of a line, rest of an entry
TITLE_LETTER, TITLE_LINE = 0.095, 0.19  # of the title: width of a letter, height of a line
NOTE_LETTER, NOTE_LINE = 0.07, 0.14  # of the note
LEGEND: Any = {"frameon": False, "fontsize": 8, "columnspacing": 1.2, "handlelength": 2.2, "borderpad": 0.2}
DASHES = ("-", "--", ":", "-.")
PALEST = 0.6  # how far towards white the last of a method's lines goes
BAND = 0.14  # opacity
TICKS = 4  # intervals between those of an axis
MOST_TICKS = 8  # on an axis that has one at every value
LONGEST = 80  # letters of a name


@dataclass(frozen=True)
class Look:
    """Of a line: `tone` is the method's colour, paler from setting to setting."""

    tone: Any
    marker: str
    dash: str = "-"


def looks_of(columns: Sequence[Column], styles: dict[str, Style]) -> dict[Column, Look]:
    """Settings of one method share its hue and its marker, and differ in paleness and dashes."""
    looks = {}
    for same in grouped(columns, lambda column: column.method.word):
        style = styles[same[0].method.word]
        for number, column in enumerate(same):
            tone = paler(style.colour, PALEST * number / max(1, len(same) - 1))
            looks[column] = Look(tone, style.marker, DASHES[number % len(DASHES)])
    return looks


def paler(colour: str, share: float) -> Any:
    """`colour` with a share of white; the same without any."""
    return colour if share == 0 else tuple((1 - share) * part + share for part in to_rgb(colour))


def brief(text: str) -> str:
    """A name of a length that a figure has a place for."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


@dataclass
class Sheet:
    """A figure of `rows` × `len(titles)` axes, widened where one panel alone would leave no room for words."""

    title: str
    titles: Sequence[str]
    rows: int = 1
    between: float = ABOVE
    named: dict[str, tuple[tuple, Any]] = field(default_factory=dict)  # of the legend, by label: place and handle

    def __post_init__(self) -> None:
        columns = len(self.titles)
        self.width = WIDTH if columns > 1 else 1.9 * WIDTH
        self.height = HEIGHT if self.rows * columns > 1 else 1.3 * HEIGHT
        self.figure = Figure()
        self.axes = self.figure.subplots(self.rows, columns, squeeze=False)
        for (row, column), axes in np.ndenumerate(self.axes):
            axes.set_title("" if row else brief(self.titles[column]), fontsize=10, y=1)
            axes.xaxis.set_label_coords(0.5, -XLABEL / self.height)
            axes.yaxis.set_label_coords(-YLABEL / self.width, 0.5)
            axes.grid(alpha=0.3)
            axes.tick_params(which="both", labelsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(TICKS, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(TICKS))

    def name(self, column: Column, label: str, handle: Any) -> None:
        """Put `handle` into the legend where the tables have `column`, unless the label is there."""
        self.named.setdefault(brief(label), (column.order, handle))

    def finish(self, *, note: str = "") -> Figure:
        """Give everything its place; `note` stands under the legend."""
        rows, columns = self.axes.shape
        labels = sorted(self.named, key=lambda label: self.named[label][0])
        width = LEFT + columns * self.width + (columns - 1) * BESIDE + RIGHT
        longest = max(map(len, labels), default=0)
        ncols = max(1, min(len(labels), int((width - 0.3) / (HANDLE + LETTER * longest))))
        lines = math.ceil(len(labels) / ncols)
        words = textwrap.wrap(note, int(width / NOTE_LETTER))
        under = 0.11 + NOTE_LINE * len(words) if note else 0
        bottom = BOTTOM + lines * LEGEND_LINE + 0.15 + under
        title = textwrap.wrap(self.title, int(width / TITLE_LETTER))
        top = TOP + TITLE_LINE * (len(title) - 1)
        height = top + rows * self.height + (rows - 1) * self.between + bottom
        self.figure.set_size_inches(width, height)
        self.figure.subplots_adjust(
            left=LEFT / width,
            right=1 - RIGHT / width,
            top=1 - top / height,
            bottom=bottom / height,
            wspace=BESIDE / self.width,
            hspace=self.between / self.height,
        )
        self.figure.suptitle("\n".join(title), y=1 - 0.12 / height, va="top", fontsize=11)
        if labels:
            legend = self.figure.legend([self.named[label][1] for label in labels], labels, ncols=ncols, **LEGEND)
            legend.set_loc("lower center")
            legend.set_bbox_to_anchor((0.5, (0.05 + under) / height))
        if note:
            self.figure.text(0.5, 0.1 / height, "\n".join(words), ha="center", va="bottom", fontsize=8, color="#444444")
        return self.figure


def curve(axes: Axes, x: np.ndarray, values: np.ndarray, look: Look) -> Any:
    """The mean of `values` (seeds × points) over `x` and a band of one standard deviation; returns the line."""
    return band(axes, x, values.mean(0), _spread(values), look)


def geometric_curve(axes: Axes, x: np.ndarray, values: np.ndarray, look: Look) -> Any:
    """As `curve`, of logarithms: for a logarithmic axis, on which what is not above 0 has no place."""
    logarithms = np.log(np.where(values > 0, values, np.nan))
    return band(axes, x, logarithms.mean(0), _spread(logarithms), look, np.exp)


def band(axes: Axes, x: np.ndarray, mean: np.ndarray, sd: np.ndarray, look: Look, scale: Any = np.asarray) -> Any:
    every = max(1, len(x) // 5)
    [line] = axes.plot(
        x, scale(mean), look.dash, color=look.tone, marker=look.marker, markersize=4, markevery=every, linewidth=1.4
    )
    if sd.any():
        axes.fill_between(x, scale(mean - sd), scale(mean + sd), color=look.tone, alpha=BAND, linewidth=0)
    return line


def _spread(values: np.ndarray) -> np.ndarray:
    return values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])


def show_unit(axis: Any, score: Score) -> None:
    """Percent signs on an axis of shares, which are drawn in %; other numbers stay as they are."""
    if score.unit == "%":
        percent(axis)


def percent(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))


def logarithmic(axes: Axes, which: str, at: Sequence[float] = ()) -> None:
    """Make an axis logarithmic; with ticks where the values are, if they are few."""
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    if 0 < len(at) <= MOST_TICKS:
        axis.set_major_locator(FixedLocator(list(at)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    else:
        label_decades(axis)
        axis.set_tick_params(which="both", labelsize=7)  # there are many
