"""Run directories, found and read: finished runs as records, and of every other directory why it is none."""

import csv
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lets_runner.columns import PARTS, Columns, written
from lets_runner.report.curves import read_columns
from lets_runner.report.foreign import (
    LARGEST_NUMBER,
    ForeignError,
    check_file,
    is_number,
    printable,
    read_json,
    read_yaml,
)
from lets_runner.report.rows import Row, read_rows
from lets_runner.run.files import ASIDE, ASIDE_OF_DATA, CONFIG, EPOCHS, EVALUATION, STEPS, SUMMARY

WORDS = ("data", "model", "method")  # of a summary: what people call it
NUMBERS = ("gap", "rho", "rho_start", "gradient_evaluations", "perturbed_share", "seconds", "peak_memory")
SIGNS = (SUMMARY, EPOCHS, STEPS)  # a directory with one of them calls itself a run
LONGEST_REASON = 1000  # letters
HASH = re.compile(r"# ([0-9a-f]{64})\n")  # first line of a config.yaml: the configuration, seed apart

Settings = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        configuration: hash of everything but the seed and where it went.
        settings: that configuration, flat: `{"sam.rho": 0.05, ...}`.
        total_steps: of the training.
        summary: what `summary.json` says.
        columns: what was measured beside the loss, and what of it selects.
        epochs: the columns of `epochs.csv`, nan where it is empty.
        probe: what `probe/probe.json` says; empty without one.
        evaluation: what `evaluation.csv` says; empty without one.
        searched: whether it is the best of a search, whose other runs are put aside.
    """

    directory: Path
    configuration: str
    settings: Settings
    total_steps: int | None
    summary: dict[str, Any]
    columns: Columns
    epochs: dict[str, np.ndarray]
    probe: dict[str, Any]
    evaluation: list[Row] = field(default_factory=list)
    searched: bool = False

    @property
    def seed(self) -> int:
        return self.summary["seed"]

    def number(self, name: str) -> float:
        """A number of the summary, nan where it has none."""
        value = self.summary.get(name)
        return float("nan") if value is None else float(value)


@dataclass(frozen=True)
class Other:
    """A directory whose run does not count; `state`: why, one of `STATES`."""

    directory: Path
    state: str
    reason: str


STATES = ("unfinished", "failed", "foreign", "superseded", "excluded", "searched")


@dataclass
class Found:
    """All that lies under some paths."""

    runs: list[Run] = field(default_factory=list)
    others: list[Other] = field(default_factory=list)

    def of(self, state: str) -> list[Other]:
        return [other for other in self.others if other.state == state]

    @cached_property
    def counts(self) -> str:
        """Everything there is in a few words."""
        words = [f"{len(found)} {state}" for state in STATES if (found := self.of(state))]
        return ", ".join([f"{len(self.runs)} finished", *words])


def find(paths: Iterable[Path]) -> Found:
    """Read every run directory under `paths`, each once; of two with one configuration and seed the newest counts.

    Raises:
        FileNotFoundError: one of `paths` is no directory.
    """
    found, configurations = Found(), Configurations()
    for directory in _candidates(paths):
        try:
            result = _read(directory, configurations)
        except Exception as error:  # whatever anybody may have put there: the others are reported on all the same
            result = Other(directory, "foreign", _in_words(error))
        if isinstance(result, Run):
            found.runs.append(result)
        else:
            found.others.append(result)
    _keep_newest(found)
    return found


def _in_words(error: Exception) -> str:
    text = str(error) if isinstance(error, ForeignError | OSError) else f"cannot be read ({error!r})"
    return " ".join(printable(text.replace("\n", " ")).split())[:LONGEST_REASON]


def _candidates(paths: Iterable[Path]) -> Iterator[Path]:
    """Directories that call themselves runs, in order; not what lies inside of one, nor behind a dot: copies."""
    seen: set[str] = set()
    for path in paths:
        if not path.is_dir():
            raise FileNotFoundError(f"{path}: there is no such directory")
        for root, directories, files in os.walk(path, followlinks=True):
            real = os.path.realpath(root)
            if real in seen:
                directories.clear()
                continue
            seen.add(real)
            whole = "config.yaml" in files and _first_line(Path(root, "config.yaml"))
            if whole or not set(SIGNS).isdisjoint(files):
                yield Path(root)
            if whole:
                directories.clear()
            directories[:] = sorted(name for name in directories if not name.startswith("."))


def _first_line(path: Path) -> str:
    """The hash in a configuration's first line; empty without one, or if it cannot be read."""
    try:
        if not path.is_file():
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            match = HASH.match(file.readline(100))
    except OSError:
        return ""
    return match[1] if match else ""


class Configurations:
    """Settings by the hash that stands for them: the seeds of one configuration share theirs, and are parsed once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Settings, int | None]] = {}

    def read(self, path: Path) -> tuple[str, Settings, int | None]:
        name = _first_line(path)
        if not name:
            raise ForeignError("config.yaml does not begin with the hash of a configuration")
        if name not in self._known:
            self._known[name] = self._parse(path)
        return name, *self._known[name]

    def _parse(self, path: Path) -> tuple[Settings, int | None]:
        tree = read_yaml(path)
        settings = flat({key: value for key, value in tree.items() if key not in ASIDE})
        for key in ASIDE_OF_DATA:
            settings.pop(f"data.{key}", None)
        for key, value in settings.items():
            if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
                raise ForeignError(f"{CONFIG}: {key} is too large")
        return settings, flat(tree).get("derived.total_steps")


def flat(tree: dict[str, Any], prefix: str = "") -> Settings:
    """Nested mappings as one, with keys as on the command line: `{"sam": {"rho": 1}}` is `{"sam.rho": 1}`."""
    settings: Settings = {}
    for key, value in tree.items():
        name = f"{prefix}{printable(str(key))}"
        if isinstance(value, dict):
            settings |= flat(value, f"{name}.")
        else:
            settings[name] = value
    return settings


def _read(directory: Path, configurations: Configurations) -> Run | Other:
    if not (directory / SUMMARY).exists() and (directory / CONFIG).exists():
        return Other(directory, "unfinished", "no summary yet")
    summary = read_json(directory / SUMMARY)
    status = summary.get("status")
    if status == "failed":
        return Other(directory, "failed", " ".join(str(summary.get("error")).split())[:LONGEST_REASON])
    if status in ("running", "interrupted"):
        epochs = summary.get("epochs")
        return Other(directory, "unfinished", status if epochs is None else f"{status} after {epochs} epochs")
    if status != "finished":
        raise ForeignError(f"{SUMMARY} has no status of a run")
    columns = _columns(summary)
    if summary.get(f"test_{columns.selects}") is None:
        return Other(directory, "unfinished", f"no test {columns.selected.words}")
    _check(summary, columns)
    name, settings, steps = configurations.read(directory / CONFIG)
    epochs = _epochs(directory / EPOCHS, summary["epochs"])
    probe = _probe(directory / "probe" / "probe.json")
    evaluation = read_rows(directory / EVALUATION)
    return Run(directory, name, settings, steps, summary, columns, epochs, probe, evaluation)


def _columns(summary: dict[str, Any]) -> Columns:
    try:
        columns = written(summary)
    except ValueError as error:
        raise ForeignError(f"{SUMMARY}: {error}") from error
    if not all(column.title.isprintable() for column in columns.all):
        raise ForeignError(f"{SUMMARY}: columns: names and units must be printable")
    return columns


def _check(summary: dict[str, Any], columns: Columns) -> None:
    """That everything the report reads is of its kind; what nobody needs may be null."""
    for key in WORDS:
        if not isinstance(summary.get(key), str):
            raise ForeignError(f"{SUMMARY} lacks {key}")
        summary[key] = printable(summary[key])
    for key in ("seed", "epochs"):
        if summary.get(key) is None:
            raise ForeignError(f"{SUMMARY} lacks {key}")
        if not isinstance(summary[key], int) or not is_number(summary[key]):
            raise ForeignError(f"{SUMMARY}: {key} is no whole number")
    for key in (*NUMBERS, *(name for part in PARTS for name in columns.of(part))):
        if not _numeric(summary.get(key)):
            raise ForeignError(f"{SUMMARY}: {key} is no number")


def _numeric(value: Any) -> bool:
    return value is None or is_number(value)


def _probe(path: Path) -> dict[str, Any]:
    """What a probe measured, empty where there was none."""
    if not path.exists():
        return {}
    probe = read_json(path)
    values = [probe.get("hessian_trace"), probe.get("hessian_trace_error")]
    try:
        values += probe.get("hessian_eigenvalues") or []
        for kind in ("m_sharpness", "adaptive_sharpness"):
            values += (probe.get(kind) or {}).values()
            list(map(float, probe.get(kind) or {}))  # radii
        values += [(probe.get("settings") or {}).get("sharpness", {}).get("m")]
    except (TypeError, AttributeError, ValueError):
        values.append("of another make")
    if not all(map(_numeric, values)):
        raise ForeignError("probe/probe.json holds what no probe writes; remove it, or probe again")
    return probe


def _epochs(path: Path, count: int) -> dict[str, np.ndarray]:
    if path.exists():
        check_file(path)
    try:
        columns = {name: _known(np.array(values)) for name, values in read_columns(path).items()}
    except (ValueError, csv.Error) as error:
        raise ForeignError(f"{path.name} cannot be read: {error}") from error
    rows = len(columns.get("epoch", ()))
    if rows != count:
        raise ForeignError(f"{path.name} has {rows} of {count} epochs")
    return columns


def _known(values: np.ndarray) -> np.ndarray:
    """The numbers that a figure has a place for; nan for others."""
    return np.where(np.abs(values) <= LARGEST_NUMBER, values, np.nan)


def _keep_newest(found: Found) -> None:
    """Of several directories with one configuration and seed keep the one whose summary was written last."""
    newest: dict[tuple[str, int], Run] = {}
    for run in sorted(found.runs, key=_age):
        before = newest.get((run.configuration, run.seed))
        if before:
            found.others.append(Other(before.directory, "superseded", f"the same run is newer in {run.directory}"))
        newest[run.configuration, run.seed] = run
    kept = {id(run) for run in newest.values()}
    found.runs = [run for run in found.runs if id(run) in kept]


def _age(run: Run) -> int:
    return (run.directory / "summary.json").stat().st_mtime_ns
