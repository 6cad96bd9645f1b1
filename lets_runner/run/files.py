"""The files of a run directory, by name, and how they are written whole. Needs no torch: reports read them too."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

CONFIG, SUMMARY, STEPS, EPOCHS = "config.yaml", "summary.json", "steps.csv", "epochs.csv"
CURVES, CHECKPOINTS, TRACKERS = "curves.png", "checkpoints", "trackers.json"
LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"

# Keys that do not make another configuration: where it goes, how it looks, who is told of it, which seed, what the
# runner fills in, how processes share the work (any number of them may go on with a run), and how steps are launched.
ASIDE = ("seed", "output", "progress", "logger", "derived", "distributed", "graphs")
ASIDE_OF_DATA = ("download", "workers")  # of `data`; not its root: two sets of one layout may differ in that alone


def write_whole(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file so that a reader, or a kill, sees the old one or the new one and nothing between."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
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
        summary = json.loads((directory / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if status in (None, summary.get("status")) else {}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
