"""A sweep: runs by their directories, which tell what is done, whatever launched them and however that ended."""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lets_runner.run import read_summary


class Sweep:
    """Runs that belong together.

    Args:
        jobs: {run directory: what the launcher needs to know of it}.
    """

    def __init__(self, jobs: dict[Path, list[str]]):
        self.jobs = jobs
        self.skipped = [directory for directory in jobs if _finished(directory)]
        self._before = {directory: _written(directory) for directory in jobs}

    def run(self, launch: Callable[[list[list[str]]], Any]) -> None:
        """Launch what has not finished; where a launcher gives up, say because a worker of its was killed, go on with
        what it has not begun.

        Raises:
            Exception: what a launcher raised that began nothing.
        """
        left = [directory for directory in self.jobs if directory not in self.skipped]
        while left:
            try:
                launch([self.jobs[directory] for directory in left])
                return
            except Exception as error:
                before, left = left, [directory for directory in left if not self._begun(directory)]
                if len(left) == len(before):
                    raise
                print(f"lets-train: the launcher gave up ({' '.join(str(error).split())[:300]})", file=sys.stderr)

    def unfinished(self) -> list[Path]:
        return [directory for directory in self.jobs if not _finished(directory)]

    def result(self) -> str:
        """One line: how many runs finished, failed, were skipped, and how to see them together."""
        new = Counter(self._status(directory) for directory in self.jobs if directory not in self.skipped)
        counts = [f"{new.pop('finished', 0)} finished", f"{new.pop('failed', 0)} failed"]
        counts += [f"{len(self.skipped)} skipped (finished before)"]
        counts += [f"{count} {status}" for status, count in sorted(new.items())]
        return f"{len(self.jobs)} runs: {', '.join(counts)}; lets-report {self._root()}"

    def _begun(self, directory: Path) -> bool:
        return _written(directory) != self._before[directory]

    def _status(self, directory: Path) -> str:
        status = read_summary(directory).get("status", "not run") if self._begun(directory) else "not run"
        return "broken off" if status in ("running", "interrupted") else status

    def _root(self) -> str:
        """What all directories have in common: <output> of <output>/<names>/<hash>/<seed>."""
        return " ".join(sorted({str(directory.parents[2]) for directory in self.jobs}))


def _written(directory: Path) -> int | None:
    """When its summary was, in nanoseconds; None without one."""
    summary = directory / "summary.json"
    return summary.stat().st_mtime_ns if summary.exists() else None


def _finished(directory: Path) -> bool:
    return bool(read_summary(directory, status="finished"))
