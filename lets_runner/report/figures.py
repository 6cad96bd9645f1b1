"""The figures of a report: which there are, drawn to files by two processes if they are many."""

import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from matplotlib.figure import Figure

from lets_runner.report import sensitivity, trajectories
from lets_runner.report.grid import Grid
from lets_runner.report.methods import Style

# By the end of the file's name. What there is nothing for draws none.
KINDS: dict[str, Callable[[Grid, dict[str, Style]], Figure | None]] = {
    "curves": trajectories.accuracy_and_loss,
    "radius": trajectories.radius,
    "gap": trajectories.gap,
    "fixed-radius": sensitivity.over_fixed_radius,
    "start": sensitivity.over_start,
    "noise": sensitivity.over_noise,
}
PROCESSES = 2
FEW = 8  # figures that one process draws before another one is up
DPI = 130  # of the PNGs


@dataclass(frozen=True)
class Picture:
    """A figure on disk, as PNG at `path` and as PDF beside it; `words` say what it shows."""

    path: Path
    data: str
    words: str


@dataclass(frozen=True)
class Commission:
    """A figure to be drawn, without the ending of its files."""

    kind: str
    grid: Grid
    styles: dict[str, Style]
    path: Path

    def draw(self) -> Picture | None:
        figure = KINDS[self.kind](self.grid, self.styles)
        if figure is None:
            return None
        png = self.path.with_name(self.path.name + ".png")
        figure.savefig(png, dpi=DPI)
        figure.savefig(png.with_suffix(".pdf"), metadata={"CreationDate": None})
        methods = ", ".join(dict.fromkeys(column.name for column in self.grid.columns))
        return Picture(png, self.grid.rows[0].data, f"{figure.get_suptitle()} ({methods})")


def draw(grid: Grid, styles: dict[str, Style], directory: Path) -> list[Picture]:
    """Draw every figure that the runs have something for; for each data set and model one of a kind."""
    directory.mkdir(parents=True, exist_ok=True)
    parts = grid.parts()
    commissions = [
        Commission(kind, part, styles, directory / f"{name}-{kind}")
        for part, name in zip(parts, _file_names(parts), strict=True)
        for kind in KINDS
    ]
    if len(commissions) <= FEW:
        return [picture for one in commissions if (picture := one.draw())]
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        return [picture for picture in pool.map(Commission.draw, commissions) if picture]


def _file_names(parts: list[Grid]) -> list[str]:
    """Names of data set and model as those of files; a number tells apart what is the same in safe letters."""
    names: list[str] = []
    for part in parts:
        row = part.rows[0]
        name = re.sub(r"[^A-Za-z0-9=.]+", "-", f"{row.data}-{row.model}").strip("-.")
        names.append(name if name not in names else f"{name}-{len(names)}")
    return names
