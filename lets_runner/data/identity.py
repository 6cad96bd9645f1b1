"""What data a run was trained on, in a few words that a later start can compare."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lets_runner.data.files import Files
from lets_runner.data.splits import Splits

Column = Tensor | np.ndarray
PARTS = {"train": "training", "val": "validation", "test": "test"}
MOST_SIZES = 10_000  # files of a part that are asked for their size, for a million take minutes on a distant disk


def identity(splits: Splits) -> dict[str, Any]:
    """How many examples every part has, and a fingerprint of all tensors and arrays in them, in order.

    Of files that is their names and classes; `sizes` is a fingerprint of the sizes of evenly spaced ones.
    """
    parts = [getattr(splits, name) for name in PARTS]
    found: dict[str, Any] = {name: len(part) for name, part in zip(PARTS, parts, strict=True)}
    found["fingerprint"] = _fingerprint(column for part in parts for column in _columns(part))
    if any(isinstance(part, Files) for part in parts):
        found["sizes"] = _fingerprint(_sizes(part) for part in parts if isinstance(part, Files))
    return found


def fingerprint_of(part: Any) -> str:
    """The same for the same examples of one part; of files by their names, classes and sizes."""
    return _fingerprint([*_columns(part), *([_sizes(part)] if isinstance(part, Files) else [])])


def check_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    """That a run may go on; warns of files of other sizes, as of a broken image that was put back whole.

    Args:
        before, now: what `identity` said.

    Raises:
        ValueError: the data are others.
    """
    keys = (*PARTS, "fingerprint")
    if any(before.get(key) != now[key] for key in keys):
        raise ValueError(
            f"this run was begun with other data ({_words(before)}) than there are now ({_words(now)}): put those "
            "back, or move the run's directory away to start over"
        )
    if before.get("sizes") != now.get("sizes"):
        warnings.warn("data: files have other sizes than when this run was begun", stacklevel=2)


def _words(found: dict[str, Any]) -> str:
    counts = ", ".join(f"{found.get(name)} {words}" for name, words in PARTS.items())
    return f"{counts} examples, {found.get('fingerprint')}"


def _columns(part: Any) -> Iterator[Column]:
    """The tensors and arrays of numbers or text that a part is made of."""
    for value in [getattr(part, field.name) for field in fields(part)] if is_dataclass(part) else []:
        if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "biufSU"):
            yield value


def _sizes(files: Files) -> np.ndarray:
    chosen = np.unique(np.linspace(0, len(files) - 1, min(MOST_SIZES, len(files)), dtype=np.int64))
    return np.array([_size(files.path(int(index))) for index in chosen], dtype=np.int64)


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:  # reading it will report that
        return -1


def _fingerprint(columns: Iterable[Column]) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update(f"{column.dtype} {tuple(column.shape)}".encode())
        if isinstance(column, Tensor):
            column = column.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()[:16]
