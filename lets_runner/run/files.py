"""The files of a run directory, by name, and how they are written whole. Needs no torch: reports read them too."""

import errno
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

CONFIG, SUMMARY, STEPS, EPOCHS = "config.yaml", "summary.json", "steps.csv", "epochs.csv"
CURVES, CHECKPOINTS, TRACKERS = "curves.png", "checkpoints", "trackers.json"
INPUTS = "inputs.json"  # what a model of this run takes and gives: enough to use it without the data set
EVALUATION = "evaluation.csv"  # what lets-eval has measured, a row a data set
HYPOTHESES = "hypotheses.txt"  # what the model said of every test example, a line each
LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
TEMPORARY = ".tmp"  # how the names of files end that are not whole yet

# Keys that do not make another configuration: where it goes, how it looks, which trackers it has, which seed, what the
# runner fills in, how processes share the work (any number of them may go on with a run), and how steps are launched.
ASIDE = ("seed", "output", "progress", "logger", "derived", "distributed", "graphs")
ASIDE_OF_DATA = ("download", "workers")  # of `data`; not its root: two sets of one layout may differ in that alone
# What to do about a directory that cannot be written.
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "let it be written"),
    errno.ENOENT: "it was moved or removed while the run went on, so put it back",
}


class UnwritableError(OSError):
    """A run directory cannot be written; the text is one line that says how to fix that."""


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """What goes wrong in here is an UnwritableError that says what to do."""
    try:
        yield
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "see to it")
        raise UnwritableError(
            f"{directory} cannot be written ({error.strerror or error}): {remedy}, and the same command goes on from "
            "what is saved"
        ) from error


def write_whole(path: Path, write: Callable[[BinaryIO], Any], *, keep: Path | None = None) -> None:
    """Write a file so that a reader, or a kill, sees the old one or the new one and nothing between.

    What cannot be written, on a full disk say, leaves the old one alone and nothing beside it.

    Args:
        keep: the name that the old one is kept under.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_json(path: Path, facts: dict[str, Any]) -> None:
    """Write `facts` whole; numbers in them that are not finite become null."""
    text = json.dumps(_plain(facts), indent=2) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def sync(path: Path) -> None:
    if path.exists():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_summary(directory: Path, *, status: str | None = None) -> dict[str, Any]:
    """What `summary.json` says; empty where there is none, none to be read, or none of that status."""
    try:
        summary = parse_summary(directory / SUMMARY)
    except (OSError, ValueError):
        return {}
    return summary if status in (None, summary.get("status")) else {}


def parse_summary(path: Path) -> dict[str, Any]:
    """What `summary.json` says.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(summary, dict):
        raise ValueError("holds no names and values")
    return summary


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
