"""A sweep: runs by their directories, which tell what is done, whatever launched them and however that ended."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from lets_runner.console import complain
from lets_runner.run.files import read_summary, writing

MARK = ".begun"  # a file that a run of a sweep touches before all else


class Sweep:
    """Runs that belong together.

    Args:
        jobs: {run directory: what the launcher needs to know of it}.
    """

    def __init__(self, jobs: dict[Path, list[str]]):
        self.jobs = jobs
        self.skipped = [directory for directory in jobs if _finished(directory)]
        self._marks = {directory: _mark(directory) for directory in jobs}

    def run(self, launch: Callable[[list[list[str]]], Any]) -> None:
        """Launch what has not finished.

        Where a launcher gives up half-way, say because a worker of its was killed, what it has not begun goes first;
        then those it was at, one at a time, so that one that kills its worker takes no other with it.

        Raises:
            UnwritableError: of the directory for all of them.
            Exception: what a launcher raised that began nothing.
        """
        for root in self._roots():
            with writing(root):
                root.mkdir(parents=True, exist_ok=True)
        left = [directory for directory in self.jobs if directory not in self.skipped]
        broken: list[Path] = []
        while left:
            try:
                launch([self.jobs[directory] for directory in left])
                break
            except Exception as error:
                begun = [directory for directory in left if self._begun(directory)]
                if not begun:
                    raise
                _complain(error)
                broken += [directory for directory in begun if self._status(directory) == "broken off"]
                left = [directory for directory in left if directory not in begun]
        for directory in broken:
            try:
                launch([self.jobs[directory]])
            except Exception as error:
                _complain(error)

    def unfinished(self) -> list[Path]:
        return [directory for directory in self.jobs if not _finished(directory)]

    def result(self) -> str:
        """One line: how many runs finished, failed, were skipped, and how to see them together."""
        new = Counter(self._status(directory) for directory in self.jobs if directory not in self.skipped)
        counts = [f"{new.pop('finished', 0)} finished", f"{new.pop('failed', 0)} failed"]
        counts += [f"{len(self.skipped)} skipped (finished before)"]
        counts += [f"{count} {status}" for status, count in sorted(new.items())]
        return f"{len(self.jobs)} runs: {', '.join(counts)}; lets-report {' '.join(map(str, self._roots()))}"

    def _begun(self, directory: Path) -> bool:
        return _mark(directory) != self._marks[directory]

    def _status(self, directory: Path) -> str:
        status = read_summary(directory).get("status")
        if not self._begun(directory):
            return "not run"
        return status if status in ("finished", "failed", "interrupted") else "broken off"

    def _roots(self) -> list[Path]:
        """What all directories have in common: <output> of <output>/<names>/<hash>/<seed>."""
        return sorted({directory.parents[2] for directory in self.jobs})


def search(sweeper: Any, words: Sequence[str]) -> dict[str, Any]:
    """For the summary of a trial: which study it belongs to, and what that varies. Empty of any other sweep.

    Args:
        sweeper: Hydra's configuration of it.
        words: of the command line that began the search.
    """
    if "study_name" not in sweeper:
        return {}
    overrides = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    overrides += [word for word in words if not word.startswith("-") and "=" in word]
    parsed = OverridesParser.create().parse_overrides(overrides)
    varied = {override.key_or_group: override.is_sweep_override() for override in parsed}  # the last one counts
    return {"search": {"study": str(sweeper.study_name), "over": sorted(key for key, is_it in varied.items() if is_it)}}


def mark(directory: Path) -> None:
    """Note that the run of `directory` has begun."""
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / MARK).touch()


def _mark(directory: Path) -> int | None:
    """When a run was begun last, in nanoseconds; None if never."""
    path = directory / MARK
    return path.stat().st_mtime_ns if path.exists() else None


def _finished(directory: Path) -> bool:
    return bool(read_summary(directory, status="finished"))


def _complain(error: Exception) -> None:
    complain(f"the launcher gave up ({' '.join(str(error).split())[:300]})")
