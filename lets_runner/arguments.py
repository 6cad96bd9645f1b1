"""What the command lines of runs that exist have in common: how they refuse, warn and say, and bounds of numbers."""

import argparse
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from lets_runner import console


class Parser(argparse.ArgumentParser):
    """One that refuses in one line."""

    def error(self, message: str) -> NoReturn:
        sys.exit(self.complain(f"{message}; {self.prog} --help shows all"))

    def complain(self, text: str) -> int:
        """Say what is wrong; returns the exit code."""
        console.complain(" ".join(text.split()), program=self.prog)
        return 2

    def say(self, text: str) -> None:
        console.say(text, program=self.prog)

    def warn_in_lines(self) -> None:
        """From now on a warning is a line on standard error."""

        def show(message: Warning | str, *_: Any) -> None:
            self.complain(f"warning: {message}")

        warnings.showwarning = show  # type: ignore[assignment]


def device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text}: must be auto, cpu, cuda or cuda:N")
    return text


def number(text: str, kind: type, holds: Callable[[Any], bool], what: str) -> Any:
    """`text` as a number of a `kind` that `holds`; `what` it must be is said where it is not."""
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not holds(value):
        raise argparse.ArgumentTypeError(f"{text}: must be {what}")
    return value


def count(text: str) -> int:
    return number(text, int, lambda value: value >= 1, "a whole number of at least 1")


def seed(text: str) -> int:
    return number(text, int, lambda value: value >= 0, "a whole number of at least 0")
