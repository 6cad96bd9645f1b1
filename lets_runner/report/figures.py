"""The figures of a report: which there are, and their drawing to files."""

import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from lets_runner.report import sensitivity, trajectories
from lets_runner.report.grid import Grid
from lets_runner.report.methods import Style

Make = Callable[[Grid, dict[str, Style]], Figure | None]

# By the end of the file's name. What there is nothing for draws none.
KINDS: dict[str, Make] = {
    "curves": trajectories.score_and_loss,
    "radius": trajectories.radius,
    "gap": trajectories.gap,
    "fixed-radius": sensitivity.over_fixed_radius,
    "start": sensitivity.over_start,
    "noise": sensitivity.over_noise,
}
DPI = 130  # of the PNGs
LONGEST = 100  # letters of a file's name, before its kind
# What runs call themselves is no mathematics, and there are letters that no font has.
PLAIN: Any = {"text.parse_math": False}
UNKNOWN_LETTER = "Glyph .* missing"


@dataclass(frozen=True)
class Picture:
    """A figure on disk, as PNG at `path` and as PDF beside it.

    Args:
        data: the data set.
        words: what it shows, for those who cannot see it.
        width: in inches.
    """

    path: Path
    data: str
    title: str
    words: str
    width: float


@dataclass(frozen=True)
class Undrawn:
    """A figure that failed, by the name that its file would have."""

    name: str
    reason: str


def outside(word: str) -> tuple[str, Make]:
    """A figure of somebody else's, as in "package.module:function": its kind, and what makes it.

    Raises:
        ValueError: there is none; a line that says why.
    """
    module, _, name = word.partition(":")
    kind = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    if not (module and kind):
        raise ValueError(f"--figure {word}: must be a module and a function in it, as in mypackage.figures:scatter")
    if kind in KINDS:
        raise ValueError(f"--figure {word}: there is a figure {kind} already; give the function another name")
    try:
        make = getattr(import_module(module), name)
    except Exception as error:  # whatever happens in a module of somebody else's
        raise ValueError(f"--figure {word}: {' '.join(f'{type(error).__name__}: {error}'.split())}") from error
    if not callable(make):
        raise ValueError(f"--figure {word}: {name} is no function")
    return kind, make


def draw(
    grid: Grid, styles: dict[str, Style], directory: Path, more: Sequence[str] = ()
) -> Iterator[Picture | Undrawn]:
    """Draw every figure that the runs have something for, of each kind one for a data set, model and task.

    Of several of these another process draws every second one; what it draws is not waited for before the iterator
    comes to it.

    Args:
        more: figures of somebody else's, see `outside`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    parts = grid.parts()
    stems = [directory / name for name in file_names(parts)]
    commissions = [Commission(part, styles, stem, tuple(more)) for part, stem in zip(parts, stems, strict=True)]
    # spawn: a fork of a process with threads, which NumPy may have, can hang. Nothing to draw starts no process.
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    elsewhere = pool.map(Commission.draw, commissions[1::2])
    here = [commission.draw() for commission in commissions[::2]]
    pool.shutdown(wait=False)
    return chain(chain.from_iterable(here), chain.from_iterable(elsewhere))


@dataclass(frozen=True)
class Commission:
    """The figures of one data set, model and task; `stem` is the path that their names begin with."""

    grid: Grid
    styles: dict[str, Style]
    stem: Path
    more: tuple[str, ...]

    def draw(self) -> list[Picture | Undrawn]:
        made = [self._drawn(kind, make) for kind, make in [*KINDS.items(), *map(outside, self.more)]]
        return [one for one in made if one]

    def _drawn(self, kind: str, make: Make) -> Picture | Undrawn | None:
        name = f"{self.stem.name}-{kind}"
        try:
            with rc_context(PLAIN), warnings.catch_warnings():
                warnings.filterwarnings("ignore", UNKNOWN_LETTER)
                figure = make(self.grid, self.styles)
                return self._save(figure, self.stem.with_name(f"{name}.png")) if figure else None
        except Exception as error:  # one that fails takes no other with it
            last = traceback.extract_tb(error.__traceback__)[-1]
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return Undrawn(name, f"{reason}, in {Path(last.filename).name}, line {last.lineno}")

    def _save(self, figure: Figure, png: Path) -> Picture:
        figure.savefig(png, dpi=DPI)
        figure.savefig(png.with_suffix(".pdf"), metadata={"CreationDate": None})
        methods = ", ".join(dict.fromkeys(column.name for column in self.grid.columns))
        title = " ".join(figure.get_suptitle().split()) or png.stem
        return Picture(png, self.grid.rows[0].data, title, f"{title} ({methods})", float(figure.get_size_inches()[0]))


def file_names(parts: list[Grid]) -> list[str]:
    """Names of data set and model as those of files; a number tells apart what is the same in safe letters."""
    names: list[str] = []
    for part in parts:
        row = part.rows[0]
        name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{row.data}-{row.model}").strip("-.")[:LONGEST] or "figure"
        while name in names:
            name = f"{name}-{len(names)}"
        names.append(name)
    return names
