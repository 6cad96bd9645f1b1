"""The command line of `lets-probe`: its options, their bounds, and how it refuses."""

import argparse
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from lets_runner import console

PROGRAM = "lets-probe"
PARTS = ("hessian", "sharpness", "landscape")


class Parser(argparse.ArgumentParser):
    """One that refuses in one line."""

    def error(self, message: str) -> NoReturn:
        sys.exit(complain(f"{message}; lets-probe --help shows all"))


def complain(text: str) -> int:
    """Say what is wrong; returns the exit code."""
    console.complain(" ".join(text.split()), program=PROGRAM)
    return 2


def say(text: str) -> None:
    console.say(text, program=PROGRAM)


def parse() -> argparse.Namespace:
    """What `sys.argv` asks for; ends the program if that cannot be."""
    parser = Parser(
        "lets-probe",
        usage="lets-probe RUN... [options]",
        description="Measure how flat the minima of runs are: Hessian, sharpness, loss landscapes. Writes RUN/probe/.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run directory, or one that holds some")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="which weights")
    parser.add_argument("--split", choices=("train", "val", "test"), default="train", help="which examples")
    parser.add_argument("--examples", type=_count, default=1000, help="how many of them, or all if there are fewer")
    parser.add_argument("--seed", type=_seed, default=0, help="of the examples, and of all random vectors")
    parser.add_argument("--batch-size", type=_count, default=250, help="examples at once: memory against speed")
    parser.add_argument("--device", type=_device, default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--double", action="store_true", help="compute in float64")

    hessian = parser.add_argument_group("hessian")
    hessian.add_argument("--eigenvalues", type=_count, default=5, help="how many of the largest")
    hessian.add_argument("--trace-samples", type=_several, default=100, help="random vectors for the trace")

    sharp = parser.add_argument_group("sharpness")
    sharp.add_argument("--m", type=_count, default=128, help="examples that share an ascent")
    sharp.add_argument("--rho", type=_positive, nargs="+", default=[0.01, 0.05, 0.1], help="radii of m-sharpness")
    sharp.add_argument("--adaptive-rho", type=_positive, nargs="+", default=[0.1, 0.5, 1.0], help="in ASAM's norm")
    sharp.add_argument("--ascent-steps", type=_count, default=1, help="1: SAM's own ascent")

    scape = parser.add_argument_group("landscape")
    sizes = ("CURVE", "SURFACE")
    scape.add_argument("--grid", type=_odd, nargs=2, default=[41, 21], metavar=sizes, help="points a direction, odd")
    scape.add_argument("--span", type=_positive, default=1.0, help="how far to go, in filter norms")
    return parser.parse_args()


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text}: must be auto, cpu, cuda or cuda:N")
    return text


def _number(text: str, kind: type, holds: Any, what: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not holds(value):
        raise argparse.ArgumentTypeError(f"{text}: must be {what}")
    return value


def _count(text: str) -> int:
    return _number(text, int, lambda value: value >= 1, "a whole number of at least 1")


def _several(text: str) -> int:
    return _number(text, int, lambda value: value >= 2, "a whole number of at least 2: their spread is the error")


def _seed(text: str) -> int:
    return _number(text, int, lambda value: value >= 0, "a whole number of at least 0")


def _odd(text: str) -> int:
    what = "an odd number of at least 3, so that the minimum itself is one of the points"
    return _number(text, int, lambda value: value >= 3 and value % 2 == 1, what)


def _positive(text: str) -> float:
    return _number(text, float, lambda value: 0 < value < float("inf"), "a finite number above 0")
