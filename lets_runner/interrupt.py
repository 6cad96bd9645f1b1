"""Ctrl-C where there is no training to save, and in a sweep whose runs are other processes'. Quick to import."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CODE = 128 + signal.SIGINT
_SIGINT = {signal.SIGINT}
_came_before = False  # to a run in this process, in a sweep that defers it


def leave(*_: Any) -> None:
    """A handler that ends the process at once: an exception might be taken for a library's own, amid its import."""
    if os.environ.get("RANK", "0") == "0":
        os.write(2, b"lets-train: interrupted\n")
    os._exit(CODE)


@contextmanager
def raised() -> Iterator[None]:
    """In here Ctrl-C is a KeyboardInterrupt again, for those who have something to say at their end."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def deferred() -> Iterator[list[bool]]:
    """In here Ctrl-C is deferred, also in processes started here, which heed it only during their runs (`accepted`).

    Yields a list that holds True, after the block, if it came.
    """
    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as joblibs

    came: list[bool] = []
    for tracker in (resource_tracker, joblibs):
        tracker.ensure_running()  # or its start, amid that of a worker, would lift the mask
    before = signal.signal(signal.SIGINT, lambda *_: came.append(True))  # of a thread that is older than the mask
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGINT)
    try:
        yield came
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGINT)  # now the handler is called
        signal.signal(signal.SIGINT, before)


@contextmanager
def accepted() -> Iterator[bool]:
    """Accept a deferred Ctrl-C for the time of a run. Yields whether to begin; an exception it raises ends here."""
    global _came_before
    if signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        yield True
        return
    _came_before = _came_before or signal.SIGINT in signal.sigpending()
    if _came_before:
        yield False
        return
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGINT)
        try:
            yield True
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGINT)
    except KeyboardInterrupt:
        _came_before = True
    except SystemExit as stop:
        if stop.code != CODE:
            raise
        _came_before = True
