"""Where things stand on an axis: what lies close together is spread out, and what lies on one spot side by side."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

ENOUGH = 0.25  # share of an axis on which what matters can be told apart
SQUEEZED = 0.18  # share that is left to what lies below, and above
MARGIN = 0.08  # around what matters, in units of its height
FAR = 3  # times as far from the best as the median is: does not matter
STEP = 0.02  # from one to the next on a spot, as a share of the axis
WIDEST = 0.08  # all on a spot together
ALONE = 2.0  # largest / smallest where there is one value on a logarithmic axis


def beside(x: Sequence[float], place: int, count: int, extent: Sequence[float], *, logarithmic: bool) -> np.ndarray:
    """`x` moved a little, so that the marks of `count` lines at the same x stand side by side; `extent`: all x."""
    values = np.asarray(x, dtype=float)
    share = min(STEP, WIDEST / count) * (place - (count - 1) / 2)
    if logarithmic:
        return values * max(ALONE, max(extent) / min(extent)) ** share
    return values + share * (max(extent) - min(extent))


def focus(best: float, spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The heights that matter of intervals around means: of all those that are not far worse than the best."""
    distances = [abs((low + high) / 2 - best) for low, high in spans]
    near = FAR * float(np.median(distances))
    kept = [span for span, distance in zip(spans, distances, strict=True) if distance <= near]
    return min(best, *(low for low, _ in kept)), max(best, *(high for _, high in kept))


def magnify(axes: Axes, inner: tuple[float, float], outer: tuple[float, float]) -> bool:
    """Give the heights of `inner` most of the panel where those of `outer` would press them together.

    What is squeezed in return lies on grey. Returns whether that was done.
    """
    height, whole = inner[1] - inner[0], outer[1] - outer[0]
    if height <= 0 or height > ENOUGH * whole:
        return False
    low, high = inner[0] - MARGIN * height, inner[1] + MARGIN * height
    bottom, top = min(outer[0] - MARGIN * whole, low), max(outer[1] + MARGIN * whole, high)
    below, above = outer[0] < low, outer[1] > high
    heights = [bottom if below else low - height, low, high, top if above else high + height]
    places = [0 if below else -1, SQUEEZED if below else 0, 1 - SQUEEZED if above else 1, 1 if above else 2]
    axes.set_yscale(
        "function", functions=(lambda y: np.interp(y, heights, places), lambda p: np.interp(p, places, heights))
    )
    axes.set_ylim(bottom if below else low, top if above else high)
    for squeezed, edge, other in ((below, bottom, low), (above, high, top)):
        if squeezed:
            axes.axhspan(edge, other, color="0.93", zorder=0)
    axes.yaxis.set_major_locator(FixedLocator(_ticks(low, high, bottom if below else low, top if above else high)))
    axes.yaxis.set_minor_locator(NullLocator())
    return True


def _ticks(low: float, high: float, bottom: float, top: float) -> list[float]:
    """Some between `low` and `high`, and one in the middle of what is squeezed on either side."""
    inside = [tick for tick in MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= tick <= high]
    outside = []
    for edge, other in ((bottom, low), (high, top)):
        ticks = [tick for tick in MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(edge, other) if edge < tick < other]
        outside += ticks[len(ticks) // 2 : len(ticks) // 2 + 1]
    return sorted([*inside, *outside])
