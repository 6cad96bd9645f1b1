"""A run directory: configuration, trajectories as csv, checkpoints and a summary, safe against a kill at any moment.

Rows reach the disk before the checkpoint that covers them; a run that resumes drops the rows past its checkpoint. So
an interrupted run ends with the files of one that was never interrupted, but for the seconds.
"""

import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from lets_runner.columns import PARTS, Columns
from lets_runner.record import Record
from lets_runner.run.checkpoint import pack, read_checkpoint, stamped
from lets_runner.run.files import (
    BEST,
    CHECKPOINTS,
    CONFIG,
    EPOCHS,
    HYPOTHESES,
    INPUTS,
    LAST,
    PREVIOUS,
    STEPS,
    SUMMARY,
    TEMPORARY,
    parse_summary,
    sync,
    write_json,
    write_whole,
    writing,
)
from lets_runner.run.rows import Row, Table

STEP_COLUMNS = ("step", "loss", "val_loss", "gap", "hypergradient", "rho", "gradient_norm", "lr")
FIRST_COLUMNS, LAST_COLUMNS = ("epoch", "step", "lr"), ("gap", "rho", "gradient_evaluations", "seconds")
NOTHING = Columns()  # is measured beside the loss


class DamagedError(ValueError):
    """There is nothing sound in a run directory to go on from; the text is one line that says what to do."""


class Run:
    """One run's directory. Between `open` and the end of the `with` block nobody else can train in it.

    Args:
        directory: made if it is not there.
        config: text of `config.yaml`. Its first line stands for what makes a configuration: a directory never holds
            runs of two.
        columns: what the task measures.
        test_columns: whether `epochs.csv` has the columns of the test set too.
        seed: distinguishes runs of one configuration.

    Raises:
        ValueError: in `open`, the directory belongs to another configuration, or a csv file in it has other columns.
        BlockingIOError: in `open`, another process is training in it.
        UnwritableError: in whatever writes.
    """

    def __init__(
        self, directory: Path, config: str, *, columns: Columns = NOTHING, test_columns: bool = False, seed: int = 0
    ):
        self.directory = directory
        self.config = config
        self.columns = columns
        self.seed = seed
        parts = PARTS if test_columns else PARTS[:2]
        measured = [name for part in parts for name in columns.of(part)]
        self.steps = Table(directory / STEPS, STEP_COLUMNS)
        self.epochs = Table(directory / EPOCHS, (*FIRST_COLUMNS, *measured, *LAST_COLUMNS))
        self.checkpoints = directory / CHECKPOINTS
        self._lock: int | None = None

    def open(self) -> None:
        """Make the directory and take hold of it."""
        written = self.directory / CONFIG
        if written.exists() and _first_line(written) != self.config.split("\n", 1)[0]:
            raise ValueError(
                f"{self.directory} belongs to another configuration, or its config.yaml is damaged: move it away"
            )
        for table in (self.steps, self.epochs):
            table.check_header()
        with writing(self.directory):
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.directory)
        with writing(self.directory):
            self._clear()
            if not written.exists():
                write_whole(written, lambda file: file.write(self.config.encode()))
        self._check_summary()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)

    def summarise(self, **facts: Any) -> None:
        """Replace `summary.json`; numbers that are not finite become null."""
        with writing(self.directory):
            write_json(self.directory / SUMMARY, facts)

    def write_inputs(self, inputs: dict[str, Any]) -> None:
        """What the model takes and gives; nothing where the data set does not say."""
        if inputs and not (self.directory / INPUTS).exists():
            with writing(self.directory):
                write_json(self.directory / INPUTS, inputs)

    def write_hypotheses(self, texts: dict[int, str]) -> None:
        """What the model said of the test examples, in their order, a line each."""
        text = "".join(f"{texts[number]}\n" for number in sorted(texts))
        with writing(self.directory):
            write_whole(self.directory / HYPOTHESES, lambda file: file.write(text.encode()))

    def append(self, record: Record) -> None:
        """Add the rows of `record` to the csv files."""
        with writing(self.directory):
            self.steps.append(record.steps)
            if record.epoch is not None:
                self.epochs.append([record.epoch])

    @property
    def resumes(self) -> bool:
        """Whether there is a checkpoint, sound or not."""
        return any((self.checkpoints / name).exists() for name in (LAST, PREVIOUS))

    @property
    def last_epoch(self) -> Row:
        """The last row of `epochs.csv`; empty before the end of the first epoch."""
        return (self.epochs.read() or [{}])[-1]

    @property
    def best_is_last(self) -> bool:
        """Whether the last epoch is the best so far by what the task selects on validation; ties go to the earlier."""
        column = self.columns.selected
        values = [row[f"val_{column.name}"] for row in self.epochs.read()]
        known = bool(values) and not math.isnan(values[-1])
        return known and all(column.beats(values[-1], earlier) for earlier in values[:-1])

    def save(self, state: dict[str, Any], *, best: bool = False) -> None:
        """Write a checkpoint; until it is whole on disk the one before stays what it was.

        `best.pt` goes first: a kill between the two repeats the epoch, and so the choice.
        """
        content = pack(stamped(state, configuration=self._configuration, seed=self.seed))
        with writing(self.directory):
            for table in (self.steps, self.epochs):
                sync(table.path)
            if best:
                write_whole(self.checkpoints / BEST, lambda file: file.write(content))
            keep = self.checkpoints / PREVIOUS
            write_whole(self.checkpoints / LAST, lambda file: file.write(content), keep=keep)

    def load(self, check: Callable[[dict[str, Any]], None], *, epoch_steps: int) -> dict[str, Any] | None:
        """The newest sound checkpoint, None without any; drops the rows that lie past it.

        Args:
            check: raises a ValueError, a few words, for a state that training cannot go on from.
            epoch_steps: that make an epoch.

        Raises:
            DamagedError: there are checkpoints, none of them sound with all rows up to its step. Nothing is changed.
        """
        found = [path for name in (LAST, PREVIOUS) if (path := self.checkpoints / name).exists()]
        state = self._sound(found, check, epoch_steps) if found else None
        step = 0 if state is None else state["step"]
        if state is None and (lost := len(self.epochs.read())) > 1:  # one: killed before its checkpoint
            warnings.warn(f"{self.checkpoints} has no checkpoint: {lost} epochs start over", stacklevel=2)
        with writing(self.directory):
            self.steps.cut(step)
            self.epochs.cut(step // epoch_steps)
        return state

    def _sound(self, found: list[Path], check: Callable[[dict[str, Any]], None], epoch_steps: int) -> dict[str, Any]:
        for path, other in zip(found, [*found[1:], None], strict=True):
            try:
                return self._read(path, check, epoch_steps)
            except ValueError as error:
                if other is None:
                    raise DamagedError(
                        f"{error}, and there is no other checkpoint to go on from: put back what was there, or remove "
                        f"{self.checkpoints} to start over"
                    ) from error
                warnings.warn(f"{error}; going on from {other.name}, the one before", stacklevel=4)
        raise AssertionError("of no files")

    def _read(self, path: Path, check: Callable[[dict[str, Any]], None], epoch_steps: int) -> dict[str, Any]:
        state = read_checkpoint(path)
        try:
            if state.get("configuration", self._configuration) != self._configuration:
                raise ValueError("is another configuration's")
            if state.get("seed", self.seed) != self.seed:
                raise ValueError(f"is that of seed={state['seed']}, and this is seed={self.seed}")
            check(state)
            self.steps.check(state["step"])
            self.epochs.check(state["step"] // epoch_steps)
        except ValueError as error:
            raise ValueError(f"{path} {error}") from error
        return state

    @property
    def _configuration(self) -> str:
        return self.config.split("\n", 1)[0].removeprefix("# ")

    def _clear(self) -> None:
        """Remove what a kill has left unfinished."""
        for folder in (self.directory, self.checkpoints):
            for path in folder.glob(f"*{TEMPORARY}"):
                if path.is_file():
                    path.unlink()
        (self.checkpoints / "next.pt").unlink(missing_ok=True)  # an earlier version's

    def _check_summary(self) -> None:
        path = self.directory / SUMMARY
        try:
            if path.exists():
                parse_summary(path)
        except (OSError, ValueError) as error:
            warnings.warn(f"{path} cannot be read ({error}) and is rewritten", stacklevel=2)


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]


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
