"""The guard between a run and a tracker: whatever the tracker does, the run neither waits for it nor ends with it."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import Full, Queue
from threading import Event, Lock, Thread
from typing import Any

from lets_runner.run.files import write_whole
from lets_runner.trackers.tracker import Tracker
from lets_runner.trainer import Record

BACKLOG = 10_000  # records that may wait for a slow tracker; more than an hour of training that takes its time
PATIENCE = 120.0  # seconds after the end of training for what the tracker has not got through
HURRY = 10.0  # seconds for it to start; and after the end if it has not, or a signal ended training: its sender waits
_ids = Lock()  # trackers of one run write the same file


class Guard:
    """Calls one tracker, in its own thread and in order. The first thing that goes wrong is told, and is the last.

    Args:
        key: what the tracker is called in the configuration.
        experiment, name, config: for `Tracker.start`.
        warn: told, in one line, why the tracker is left out from then on.
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
        self._calls: Queue[Callable[[], None] | None] = Queue(BACKLOG)
        self._thread = Thread(target=self._work, name=f"tracker {key}", daemon=True)
        self._failed = False
        self._telling = Lock()
        self._started = Event()

    def start(self, directory: Path, *, step: int) -> None:
        """Training begins in `directory`, or goes on from `step`."""
        self.directory = directory
        self._thread.start()
        self._put(partial(self._start, step))
        self._started.wait(HURRY)  # imports are work for the processor, which would slow the first steps down

    def log(self, record: Record) -> None:
        """A record for the tracker to take when it can."""
        self._put(partial(self.tracker.log, record))

    def finish(self, summary: dict[str, Any]) -> None:
        """Training has ended; wait for the tracker to be through, but not for ever."""
        hurry = summary.get("status") == "interrupted" or not self._started.is_set()
        patience = HURRY if hurry else PATIENCE
        self._put(lambda: self.tracker.finish(summary, self.tracker.files(self.directory)))
        self._put(None)
        self._thread.join(patience)
        if self._thread.is_alive():
            self._give_up(TimeoutError(f"not ready {patience:g} s after the end of training"))

    def _put(self, call: Callable[[], None] | None) -> None:
        try:
            self._calls.put_nowait(call)
        except Full:
            self._give_up(TimeoutError(f"{BACKLOG} records behind the training"))

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if not self._failed:
                try:
                    call()
                except BaseException as error:  # not even a SystemExit in somebody's tracker is the run's affair
                    self._give_up(error)

    def _start(self, step: int) -> None:
        path = self.directory / "trackers.json"
        with _ids:
            known_as = _read(path).get(self.key)
        try:
            known_as = self.tracker.start(self.directory, **self.named, known_as=known_as, step=step)
        finally:
            self._started.set()
        with _ids:
            text = json.dumps({**_read(path), self.key: known_as}, indent=2) + "\n"
            write_whole(path, lambda file: file.write(text.encode()))

    def _give_up(self, error: BaseException) -> None:
        with self._telling:
            if self._failed:
                return
            self._failed = True
        reason = f"{type(error).__name__}: {error}".strip()[:300]
        self.warn(f"logger.{self.key} is left out from here on, and the run goes on without it ({reason})")


def _read(path: Path) -> dict[str, str]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
