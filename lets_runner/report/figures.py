"""The figures of a report: which there are, and their drawing to files."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

from matplotlib.figure import Figure

from lets_runner.report import sensitivity, trajectories
from lets_runner.report.grid import Grid
from lets_runner.report.methods import Style

# By the end of the file's name. What there is nothing for draws none.
KINDS: dict[str, Callable[[Grid, dict[str, Style]], Figure | None]] = {
    "curves": trajectories.score_and_loss,
    "radius": trajectories.radius,
    "gap": trajectories.gap,
    "fixed-radius": sensitivity.over_fixed_radius,
    "start": sensitivity.over_start,
    "noise": sensitivity.over_noise,
}
DPI = 130  # of the PNGs


@dataclass(frozen=True)
class Picture:
    """A figure on disk, as PNG at `path` and as PDF beside it; `words` say what it shows."""

    path: Path
    data: str
    words: str


def draw(grid: Grid, styles: dict[str, Style], directory: Path) -> Iterator[Picture]:
    """Draw every figure that the runs have something for, of each kind one for a data set and model.

    Of several data sets or models another process draws every second one; what it draws is not waited for before the
    iterator comes to it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    parts = grid.parts()
    stems = [directory / name for name in file_names(parts)]
    commissions = [Commission(part, styles, stem) for part, stem in zip(parts, stems, strict=True)]
    # spawn: a fork of a process with threads, which NumPy may have, can hang. Nothing to draw starts no process.
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    elsewhere = pool.map(Commission.draw, commissions[1::2])
    here = [commission.draw() for commission in commissions[::2]]
    pool.shutdown(wait=False)
    return chain(chain.from_iterable(here), chain.from_iterable(elsewhere))


@dataclass(frozen=True)
class Commission:
    """The figures of one data set and model; `stem` is the path that their names begin with."""

    grid: Grid
    styles: dict[str, Style]
    stem: Path

    def draw(self) -> list[Picture]:
        figures = {kind: make(self.grid, self.styles) for kind, make in KINDS.items()}
        return [self._save(figure, kind) for kind, figure in figures.items() if figure]

    def _save(self, figure: Figure, kind: str) -> Picture:
        png = self.stem.with_name(f"{self.stem.name}-{kind}.png")
        figure.savefig(png, dpi=DPI)
        figure.savefig(png.with_suffix(".pdf"), metadata={"CreationDate": None})
        methods = ", ".join(dict.fromkeys(column.name for column in self.grid.columns))
        return Picture(png, self.grid.rows[0].data, f"{' '.join(figure.get_suptitle().split())} ({methods})")


def file_names(parts: list[Grid]) -> list[str]:
    """Names of data set and model as those of files; a number tells apart what is the same in safe letters."""
    names: list[str] = []
    for part in parts:
        row = part.rows[0]
        name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{row.data}-{row.model}").strip("-.")
        names.append(name if name not in names else f"{name}-{len(names)}")
    return names
