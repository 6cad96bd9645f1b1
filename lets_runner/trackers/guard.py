"""The guard between a run and a tracker: whatever the tracker does, the run is not affected."""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import Full, Queue
from threading import Lock, Thread
from typing import Any

from lets_runner.record import Record
from lets_runner.run.files import TRACKERS, write_whole
from lets_runner.trackers.outside import Outside, TrackerError
from lets_runner.trackers.tracker import Tracker

BACKLOG = 10_000  # records that may wait for a slow tracker; more than an hour of training that takes its time
PATIENCE = 120.0  # seconds after the end of training for what the tracker is still at work on
HURRY = 10.0  # the same if a signal ended training: its sender waits
TICK = 0.05  # seconds between two looks at it
_ids = Lock()  # trackers of one run write the same file


class Guard:
    """Calls one tracker, in order, in a process of its own. The first failure is reported, and no call follows it.

    Args:
        key: what the tracker is called in the configuration.
        experiment, name, config: for `Tracker.start`.
        warn: called with one line that says why the tracker is left out from then on.
    """

    def __init__(
        self,
        key: str,
        tracker: Tracker,
        *,
        experiment: str,
        name: str,
        config: dict[str, Any],
        warn: Callable[[str], None],
    ):
        self.key, self.tracker, self.warn = key, tracker, warn
        self.named: dict[str, Any] = {"experiment": experiment, "name": name, "config": config}
        self._outside = Outside(tracker)
        self._calls: Queue[Callable[[], None] | None] = Queue(BACKLOG)
        self._thread = Thread(target=self._work, name=f"tracker {key}", daemon=True)
        self._failed = False
        self._telling = Lock()
        self._most = PATIENCE

    def start(self, directory: Path, *, step: int) -> None:
        """Training begins in `directory`, or goes on from `step`."""
        self.directory = directory
        self._thread.start()
        self._put(partial(self._start, step))

    def log(self, record: Record) -> None:
        """A record for the tracker to take when it can."""
        self._put(lambda: self._outside.call("log", record))

    def finish(self, summary: dict[str, Any]) -> None:
        """Training has ended; nothing follows but `wait`."""
        if summary.get("status") == "interrupted":
            self._most = HURRY
        self._put(lambda: self._outside.call("finish", summary, self.tracker.files(self.directory)))
        self._put(None)

    def wait(self) -> None:
        """Wait for the tracker for as long as it is at work.

        A server that does not answer costs `Tracker.patience` at most, counted from when the tracker last did anything.
        """
        end = time.monotonic() + self._most
        while self._thread.is_alive() and self._outside.idle < self.tracker.patience and time.monotonic() < end:
            self._thread.join(TICK)
        if self._thread.is_alive():
            self._give_up(
                TimeoutError(f"no answer for {min(self._outside.idle, self._most):.1f} s at the end of training")
            )
            self._thread.join(1.0)

    def _put(self, call: Callable[[], None] | None) -> None:
        try:
            self._calls.put_nowait(call)
        except Full:
            self._give_up(TimeoutError(f"{BACKLOG} records behind the training"))

    def _work(self) -> None:
        try:
            self._outside.begin()
            while (call := self._calls.get()) is not None and not self._failed:
                call()
            self._outside.end()
        except Exception as error:
            self._give_up(error)

    def _start(self, step: int) -> None:
        path = self.directory / TRACKERS
        with _ids:
            known_as = _read(path).get(self.key)
        known_as = self._outside.call("start", self.directory, **self.named, known_as=known_as, step=step)
        with _ids:
            text = json.dumps({**_read(path), self.key: known_as}, indent=2) + "\n"
            write_whole(path, lambda file: file.write(text.encode()))

    def _give_up(self, error: Exception) -> None:
        with self._telling:
            if self._failed:
                return
            self._failed = True
        text = str(error) if isinstance(error, TrackerError) else f"{type(error).__name__}: {error}"
        self.warn(f"logger.{self.key} is left out from here on, and the run goes on without it ({text.strip()[:300]})")
        self._outside.end(patience=0)


def _read(path: Path) -> dict[str, str]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
