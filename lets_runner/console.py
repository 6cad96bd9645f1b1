"""Writing to standard output and error, which may be closed or full: that must not end a run."""

import os
import sys
from contextlib import suppress
from typing import Any, TextIO


def say(text: str, *, program: str = "lets-train") -> None:
    """Print a line; where standard output takes none, a warning on standard error has it."""
    if (problem := _print(text, sys.stdout)) is not None:
        complain(f"warning: standard output cannot be written ({problem}): {text}", program=program)


def complain(text: str, *, program: str = "lets-train") -> None:
    """Print a line on standard error, the name of the program in front."""
    _print(f"{program}: {text}", sys.stderr)


def warn(text: str) -> None:
    complain(f"warning: {' '.join(text.split())}")


class Heedless:
    """A stream whose failures to write go unnoticed: a progress bar's."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, action: Any) -> None:
        try:
            action()
        except (OSError, ValueError):
            _mute(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _print(text: str, stream: TextIO | None) -> Exception | None:
    """What went wrong; None if nothing, or if there is no such stream."""
    try:
        if stream is not None:
            print(text, file=stream, flush=True)
        return None
    except (OSError, ValueError) as problem:
        assert stream is not None
        _mute(stream)
        return problem


def _mute(stream: TextIO) -> None:
    """Send what is left in the stream's buffer nowhere: Python would fail over it at its exit."""
    with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
