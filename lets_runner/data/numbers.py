"""Numbers from a file: a CSV whose first line names its columns, or an npz with the arrays `inputs` and `targets`."""

import csv
import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lets_runner.data.regular import check_regular

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Numbers:
    """Inputs (N, ...) and targets (N, K), float64 and finite; `columns` are the names of a CSV's inputs."""

    inputs: np.ndarray
    targets: np.ndarray
    columns: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: np.ndarray) -> "Numbers":
        return Numbers(self.inputs[index], self.targets[index], self.columns)


def read_numbers(path: Path, target: str | Sequence[str] | None) -> Numbers:
    """The numbers of a file.

    Args:
        target: the column or columns of a CSV that are to be predicted; None for an npz.

    Raises:
        FileNotFoundError, OSError: there is no such file.
        ValueError: it is not what it should be; one line that names the place.
    """
    if path.suffix not in (".csv", ".npz"):
        raise ValueError(f"path={path}: must end in .csv or .npz")
    if not path.exists():
        raise FileNotFoundError(f"path={path}: there is no such file")
    check_regular(path)
    if path.suffix == ".npz":
        if target is not None:
            raise ValueError(f"target={target}: an npz holds its targets in an array of that name; leave target=null")
        return _read_npz(path)
    try:
        return _read_csv(path, target)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a CSV in UTF-8 ({error})") from error


# CSV


def _read_csv(path: Path, target: str | Sequence[str] | None) -> Numbers:
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, skipinitialspace=True)
        names = [name.strip() for name in next(reader, [])]
        _check_header(path, names)
        chosen = _chosen(path, names, target)
        rows = [_row(path, reader.line_num, names, cells) for cells in reader if cells]
    if not rows:
        raise ValueError(f"{path}: holds no rows below its header")
    numbers = np.array(rows, dtype=np.float64)
    kept = [place for place in range(len(names)) if place not in chosen]
    return Numbers(numbers[:, kept], numbers[:, chosen], tuple(names[place] for place in kept))


def _check_header(path: Path, names: list[str]) -> None:
    if not any(names):
        raise ValueError(f"{path}: is empty, or its first line is; that must name the columns")
    if all(_is_number(name) for name in names):
        raise ValueError(f"{path}: its first line holds numbers; put a line above it that names the columns")
    for place, name in enumerate(names):
        if not name:
            raise ValueError(
                f"{path}: column {place + 1} has no name (an index? leave it out); name it in the first line"
            )
        if name in names[:place]:
            raise ValueError(f"{path}: two columns are called {name}; give each a name of its own")


def _chosen(path: Path, names: list[str], target: str | Sequence[str] | None) -> list[int]:
    """Where the targets stand."""
    wanted = [target] if isinstance(target, str) else list(target or ())
    if not wanted:
        raise ValueError(f"target={target}: must name the column to predict, or several: {_few(names)}")
    for name in wanted:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {_few(names)}"
            raise ValueError(f"target={name}: {path} has no such column; {hint}")
    if len({*wanted}) < len(wanted):
        raise ValueError(f"target={wanted}: names a column twice")
    if len(wanted) == len(names):
        raise ValueError(f"target={target}: leaves no column of {path} to predict it from")
    return [names.index(name) for name in wanted]


def _row(path: Path, line: int, names: list[str], cells: list[str]) -> list[float]:
    if len(cells) != len(names):
        raise ValueError(f"{path}, line {line}: has {len(cells)} cells, and the first line names {len(names)} columns")
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        numbers = [float(cell) if _is_number(cell) else math.nan for cell in cells]
    for name, cell, number in zip(names, cells, numbers, strict=True):
        if not abs(number) <= LARGEST:
            what = "is empty" if not cell.strip() else f"{cell.strip()[:40]!r} is no finite number of single precision"
            raise ValueError(f"{path}, line {line}, column {name}: {what}")
    return numbers


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _few(names: list[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


# npz


def _read_npz(path: Path) -> Numbers:
    try:
        # numpy would leave a file open that it cannot read
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("inputs", "targets") if name in file}
    except Exception as error:  # whatever a damaged archive makes zipfile, zlib and numpy raise
        raise ValueError(f"{path}: cannot be read as an npz of numbers ({error})") from error
    for name in ("inputs", "targets"):
        if name not in arrays:
            raise ValueError(f"{path}: holds no array {name}; it must have inputs (N, ...) and targets (N,) or (N, K)")
        if arrays[name].dtype.kind not in "biuf":
            raise ValueError(f"{path}: {name} are {arrays[name].dtype}, not numbers")
    inputs, targets = (arrays[name].astype(np.float64) for name in ("inputs", "targets"))
    if (
        inputs.ndim < 2
        or targets.ndim not in (1, 2)
        or len(inputs) != len(targets)
        or 0 in inputs.shape + targets.shape
    ):
        raise ValueError(
            f"{path}: inputs are {inputs.shape} and targets {targets.shape}; must be (N, ...) and (N,) or (N, K), "
            "with as many rows, and at least one"
        )
    for name, numbers in {"inputs": inputs, "targets": targets}.items():
        if len(wrong := np.argwhere(~(np.abs(numbers) <= LARGEST))):
            raise ValueError(
                f"{path}: {name}[{', '.join(map(str, wrong[0]))}] is {numbers[tuple(wrong[0])]}: "
                "no finite number of single precision"
            )
    return Numbers(inputs, targets.reshape(len(targets), -1))
