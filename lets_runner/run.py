"""A run directory: configuration, trajectories as csv, checkpoints and a summary, safe against a kill at any moment.

Rows reach the disk before the checkpoint that covers them; a run that resumes drops the rows past its checkpoint. So
an interrupted run ends with the files of one that was never interrupted, but for the seconds.
"""

import csv
import json
import math
import os
import platform
import re
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO, Self

import torch

from lets_runner.trainer import Record

STEPS = ("step", "loss", "val_loss", "gap", "hypergradient", "rho", "gradient_norm", "lr")
EPOCHS = ("epoch", "step", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
EPOCHS_TEST = ("test_loss", "test_accuracy")
EPOCHS_END = ("gap", "rho", "gradient_evaluations", "seconds")
PACKAGES = ("lets_runner", "torch", "torchvision", "numpy", "hydra-core", "omegaconf")


class Run:
    """One run's directory. Between `open` and the end of the `with` block nobody else can train in it.

    Args:
        directory: made if it is not there.
        config: text of `config.yaml`. Its first line stands for what makes a configuration: a directory never holds
            runs of two.
        test_columns: whether `epochs.csv` has test loss and accuracy.

    Raises:
        ValueError: in `open`, the directory belongs to another configuration.
        BlockingIOError: in `open`, another process is training in it.
    """

    def __init__(self, directory: Path, config: str, *, test_columns: bool = False):
        self.directory = directory
        self.config = config
        self.epoch_columns = (*EPOCHS, *(EPOCHS_TEST if test_columns else ()), *EPOCHS_END)
        self.steps_file = directory / "steps.csv"
        self.epochs_file = directory / "epochs.csv"
        self.checkpoints = directory / "checkpoints"
        self._lock: int | None = None

    def open(self) -> None:
        """Make the directory and take hold of it."""
        written = self.directory / "config.yaml"
        if written.exists() and _first_line(written.read_text(encoding="utf-8")) != _first_line(self.config):
            raise ValueError(
                f"{self.directory} belongs to another configuration: see its config.yaml, and move it away"
            )
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
        write_json(self.directory / "summary.json", facts)

    def append(self, record: Record) -> None:
        """Add the rows of `record` to the csv files."""
        _append_rows(self.steps_file, STEPS, record.steps)
        if record.epoch is not None:
            _append_rows(self.epochs_file, self.epoch_columns, [record.epoch])

    def epochs(self) -> list[dict[str, float]]:
        """The rows of `epochs.csv` as numbers, nan where empty."""
        return [{key: float(value or "nan") for key, value in row.items()} for row in _read_rows(self.epochs_file)]

    @property
    def best_is_last(self) -> bool:
        """Whether the last epoch has the highest validation accuracy so far; ties go to the earlier one."""
        accuracies = [row["val_accuracy"] for row in self.epochs()]
        known = bool(accuracies) and not math.isnan(accuracies[-1])
        return known and all(accuracies[-1] > earlier for earlier in accuracies[:-1])

    def save(self, state: dict[str, Any], *, best: bool = False) -> None:
        """Write a checkpoint; until it is whole on disk the one before stays what it was.

        `best.pt` goes first: a kill between the two repeats the epoch, and so the choice.
        """
        for file in (self.steps_file, self.epochs_file):
            _sync(file)
        if best:
            write_whole(self.checkpoints / "best.pt", lambda file: torch.save(state, file))
        last = self.checkpoints / "last.pt"
        whole = self.checkpoints / "next.pt"
        write_whole(whole, lambda file: torch.save(state, file))
        if last.exists():
            os.replace(last, self.checkpoints / "previous.pt")
        os.replace(whole, last)
        _sync(self.checkpoints)

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, None without any; drops the rows that lie past it."""
        state = next((state for name in ("last.pt", "previous.pt") if (state := self._read(name))), None)
        step = 0 if state is None else state["step"]
        for file in (self.steps_file, self.epochs_file):
            _drop_rows(file, step)
        return state

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.checkpoints / name
        if not path.exists():
            return None
        try:
            return read_checkpoint(path)
        except ValueError as error:
            before = {"last.pt": "going on from the one before, if there is one", "previous.pt": "starting anew"}
            warnings.warn(f"{error}; {before[name]}", stacklevel=3)
            return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `Run.save` wrote, on the CPU.

    Raises:
        ValueError: it cannot be read, or is no checkpoint of this program.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on a file that will be refused anyway
            # weights_only: a checkpoint is data, and a pickle that wants to run code is refused.
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not isinstance(state.get("step"), int):
            raise ValueError("not a checkpoint of this program")
        return state
    except Exception as error:  # whatever a damaged file makes the reader raise
        reason = str(error).strip().split("\n")[0][:200]
        raise ValueError(f"{path} cannot be read ({type(error).__name__}: {reason})") from error


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0]


def read_summary(directory: Path, *, status: str | None = None) -> dict[str, Any]:
    """What `summary.json` says; empty where there is none, none to be read, or none of that status."""
    try:
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if status in (None, summary.get("status")) else {}


def environment() -> dict[str, Any]:
    """What a result depends on beside its configuration: versions, machine and the commit of this package."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"versions": versions, "git_commit": git_commit(), "platform": platform.platform()}


def git_commit() -> str | None:
    """The commit of the checkout that this package is run from, "+changes" if files differ; None outside of one."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def reset_peak_memory(device: torch.device) -> None:
    """Measure the peak from here on: the runs of a sweep may share a process. macOS knows the process's alone."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Bytes: of the accelerator's tensors on one, else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":  # where the kernel's other number, ru_maxrss, has the parent's in it
        [kibibytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(kibibytes) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def write_whole(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file so that a reader, or a kill, sees the old one or the new one and nothing between."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync(path.parent)


def write_json(path: Path, facts: dict[str, Any]) -> None:
    """Write `facts` whole; numbers in them that are not finite become null."""
    text = json.dumps(_plain(facts), indent=2) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def _sync(path: Path) -> None:
    if path.exists():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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


def _append_rows(path: Path, columns: Sequence[str], rows: Sequence[dict[str, float]]) -> None:
    new = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(columns)
        writer.writerows([[_cell(row[column]) for column in columns] for row in rows])


def _cell(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.9g}"


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _drop_rows(path: Path, step: int) -> None:
    """Keep the header and the rows up to `step`; a line that was being written when the run died goes too."""
    if not path.exists():
        return
    header, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
    column = header.strip().split(",").index("step") if header.strip() else 0
    kept = []
    for line in lines:
        cells = line.split(",")
        if line.endswith("\n") and cells[column].isdigit() and int(cells[column]) <= step:
            kept.append(line)
    if not header.endswith("\n"):
        path.unlink()
        return
    write_whole(path, lambda file: file.write((header + "".join(kept)).encode()))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
