"""A tracker in a process of its own: random numbers, working directory and signals that it touches are its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from lets_runner.trackers.tracker import Tracker

BEAT = 0.5  # seconds between two signs of life in a call
AT_WORK = 0.1 * BEAT  # seconds of the processor between two of them that are more than waiting
LEAVE = 3.0  # seconds for the process to end once it has nothing to do
ORPHANED = 60  # seconds for it to end when the run was killed
# Signals to all processes of a job are for the run to handle.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class TrackerError(Exception):
    """What went wrong in the tracker's process, as text."""


class Outside:
    """Calls methods of `tracker` in its process, one after another. Arguments are copied."""

    def __init__(self, tracker: Tracker):
        self._tracker = tracker
        self._process: subprocess.Popen | None = None
        self._connection: Connection | None = None
        self._owes = False
        self._worked = 0.0  # when it last did
        self._cpu = 0.0  # seconds of the processor that it has had

    @property
    def idle(self) -> float:
        """Seconds for which it has owed an answer and used hardly any processor time."""
        return time.monotonic() - self._worked if self._owes else 0.0

    def begin(self) -> None:
        """Start the process. It imports the tracker's module, and nothing of what this process has loaded."""
        self._connection, theirs = Pipe()
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({theirs.fileno()})"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # with its own children
            )
        self._connection.send(self._tracker)

    def call(self, method: str, /, *arguments: Any, **settings: Any) -> Any:
        """What `tracker.<method>` returns.

        Raises:
            TrackerError: it raised something, or its process has ended.
        """
        assert self._connection is not None and self._process is not None
        self._worked, self._owes = time.monotonic(), True
        try:
            self._connection.send((method, arguments, settings))
            while (answer := self._connection.recv())[0] == "beat":
                if answer[1] - self._cpu > AT_WORK:
                    self._worked = time.monotonic()
                self._cpu = answer[1]
        except (EOFError, ConnectionError) as error:
            raise TrackerError(f"its process has ended with code {self._process.wait()}") from error
        self._owes = False
        if answer[0] == "error":
            raise TrackerError(answer[1])
        return answer[1]

    def end(self, *, patience: float = LEAVE) -> None:
        """End the process and its children; it may end by itself within `patience` seconds."""
        if self._process is None:
            return
        assert self._connection is not None
        if patience:
            self._connection.close()  # which is its signal to end
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def serve(descriptor: int) -> None:
    """The tracker's process: receive a tracker, then make calls until the connection is closed."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    answers = Answers(Connection(descriptor))
    try:
        tracker = answers.connection.recv()
        while True:
            method, arguments, settings = answers.connection.recv()
            answers.busy.set()
            answers.say("answer", getattr(tracker, method)(*arguments, **settings))
    except (EOFError, ConnectionError):
        signal.alarm(ORPHANED)
    except BaseException as error:  # even a SystemExit in a tracker must not reach the run
        answers.say("error", f"{type(error).__name__}: {error}".strip())


class Answers:
    """Messages to the run: answers, and while one is owed, how much processor time has been used."""

    def __init__(self, connection: Connection):
        self.connection = connection
        self.busy = threading.Event()
        self.busy.set()
        self._talking = threading.Lock()
        threading.Thread(target=self._beat, daemon=True).start()

    def say(self, kind: str, value: Any) -> None:
        with self._talking:
            self.connection.send((kind, value))
            if kind != "beat":
                self.busy.clear()

    def _beat(self) -> None:
        while self.busy.wait():
            try:
                self.say("beat", time.process_time())
            except OSError:  # the run has been killed, and this process may wait for something that never comes
                signal.alarm(ORPHANED)
                return
            time.sleep(BEAT)
