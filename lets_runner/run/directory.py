"""A run directory: configuration, trajectories as csv, checkpoints and a summary, safe against a kill at any moment.

Rows reach the disk before the checkpoint that covers them; a run that resumes drops the rows past its checkpoint. So
an interrupted run ends with the files of one that was never interrupted, but for the seconds.
"""

import math
import os
import warnings
from pathlib import Path
from typing import Any, Self

import torch

from lets_runner.columns import PARTS, Columns
from lets_runner.run.checkpoint import read_checkpoint
from lets_runner.run.files import (
    BEST,
    CHECKPOINTS,
    CONFIG,
    EPOCHS,
    LAST,
    PREVIOUS,
    STEPS,
    SUMMARY,
    sync,
    write_json,
    write_whole,
)
from lets_runner.run.rows import append_rows, check_header, drop_rows, read_rows
from lets_runner.trainer import Record

STEP_COLUMNS = ("step", "loss", "val_loss", "gap", "hypergradient", "rho", "gradient_norm", "lr")
FIRST_COLUMNS, LAST_COLUMNS = ("epoch", "step", "lr"), ("gap", "rho", "gradient_evaluations", "seconds")
NOTHING = Columns()  # is measured beside the loss


class Run:
    """One run's directory. Between `open` and the end of the `with` block nobody else can train in it.

    Args:
        directory: made if it is not there.
        config: text of `config.yaml`. Its first line stands for what makes a configuration: a directory never holds
            runs of two.
        columns: what the task measures.
        test_columns: whether `epochs.csv` has the columns of the test set too.

    Raises:
        ValueError: in `open`, the directory belongs to another configuration, or a csv file in it has other columns.
        BlockingIOError: in `open`, another process is training in it.
    """

    def __init__(self, directory: Path, config: str, *, columns: Columns = NOTHING, test_columns: bool = False):
        self.directory = directory
        self.config = config
        self.columns = columns
        parts = PARTS if test_columns else PARTS[:2]
        measured = [name for part in parts for name in columns.of(part)]
        self.epoch_columns = (*FIRST_COLUMNS, *measured, *LAST_COLUMNS)
        self.steps_file = directory / STEPS
        self.epochs_file = directory / EPOCHS
        self.checkpoints = directory / CHECKPOINTS
        self._lock: int | None = None

    def open(self) -> None:
        """Make the directory and take hold of it."""
        written = self.directory / CONFIG
        if written.exists() and _first_line(written.read_text(encoding="utf-8")) != _first_line(self.config):
            raise ValueError(
                f"{self.directory} belongs to another configuration: see its config.yaml, and move it away"
            )
        for file, columns in ((self.steps_file, STEP_COLUMNS), (self.epochs_file, self.epoch_columns)):
            check_header(file, columns)
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.directory)
        if not written.exists():
            write_whole(written, lambda file: file.write(self.config.encode()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)

    def summarise(self, **facts: Any) -> None:
        """Replace `summary.json`; numbers that are not finite become null."""
        write_json(self.directory / SUMMARY, facts)

    def append(self, record: Record) -> None:
        """Add the rows of `record` to the csv files."""
        append_rows(self.steps_file, STEP_COLUMNS, record.steps)
        if record.epoch is not None:
            append_rows(self.epochs_file, self.epoch_columns, [record.epoch])

    def epochs(self) -> list[dict[str, float]]:
        """The rows of `epochs.csv` as numbers, nan where empty."""
        return [{key: float(value or "nan") for key, value in row.items()} for row in read_rows(self.epochs_file)]

    @property
    def best_is_last(self) -> bool:
        """Whether the last epoch is the best so far by what the task selects on validation; ties go to the earlier."""
        column = self.columns.selected
        values = [row[f"val_{column.name}"] for row in self.epochs()]
        known = bool(values) and not math.isnan(values[-1])
        return known and all(column.beats(values[-1], earlier) for earlier in values[:-1])

    def save(self, state: dict[str, Any], *, best: bool = False) -> None:
        """Write a checkpoint; until it is whole on disk the one before stays what it was.

        `best.pt` goes first: a kill between the two repeats the epoch, and so the choice.
        """
        for file in (self.steps_file, self.epochs_file):
            sync(file)
        if best:
            write_whole(self.checkpoints / BEST, lambda file: torch.save(state, file))
        last = self.checkpoints / LAST
        whole = self.checkpoints / "next.pt"
        write_whole(whole, lambda file: torch.save(state, file))
        if last.exists():
            os.replace(last, self.checkpoints / PREVIOUS)
        os.replace(whole, last)
        sync(self.checkpoints)

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, None without any; drops the rows that lie past it."""
        state = next((state for name in (LAST, PREVIOUS) if (state := self._read(name))), None)
        step = 0 if state is None else state["step"]
        for file in (self.steps_file, self.epochs_file):
            drop_rows(file, step)
        return state

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.checkpoints / name
        if not path.exists():
            return None
        try:
            return read_checkpoint(path)
        except ValueError as error:
            before = {LAST: "going on from the one before, if there is one", PREVIOUS: "starting anew"}
            warnings.warn(f"{error}; {before[name]}", stacklevel=3)
            return None


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0]


def _lock(directory: Path) -> int:
    """Hold the directory until the descriptor is closed or the process ends, however it ends."""
    import fcntl

    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BlockingIOError(f"another process is training in {directory}") from None
    return descriptor
