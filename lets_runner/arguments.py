"""The command lines of `lets-eval` and `lets-export`: how they refuse and warn, in a line each."""

import argparse
import re
import sys
import warnings
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """One that refuses in one line."""

    def error(self, message: str) -> NoReturn:
        sys.exit(self.complain(f"{message}; {self.prog} --help shows all"))

    def complain(self, text: str) -> int:
        """Say what is wrong; returns the exit code."""
        print(f"{self.prog}: {' '.join(text.split())}", file=sys.stderr)
        return 2

    def warn_in_lines(self) -> None:
        """From now on a warning is a line on standard error."""

        def show(message: Warning | str, *_: Any) -> None:
            self.complain(f"warning: {message}")

        warnings.showwarning = show  # type: ignore[assignment]


def device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text}: must be auto, cpu, cuda or cuda:N")
    return text
