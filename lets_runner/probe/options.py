"""The command line of `lets-probe`: its options, their bounds, and how it refuses."""

import argparse
from pathlib import Path

from lets_runner.arguments import Parser, count, device, number, seed

PARTS = ("hessian", "sharpness", "landscape")


def options() -> Parser:
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
    parser.add_argument("--examples", type=count, default=1000, help="how many of them, or all if there are fewer")
    parser.add_argument("--seed", type=seed, default=0, help="of the examples, and of all random vectors")
    parser.add_argument("--batch-size", type=count, default=250, help="examples at once: memory against speed")
    parser.add_argument("--device", type=device, default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--double", action="store_true", help="compute in float64")

    hessian = parser.add_argument_group("hessian")
    hessian.add_argument("--eigenvalues", type=count, default=5, help="how many of the largest")
    hessian.add_argument("--trace-samples", type=_several, default=100, help="random vectors for the trace")

    sharp = parser.add_argument_group("sharpness")
    sharp.add_argument("--m", type=count, default=128, help="examples that share an ascent")
    sharp.add_argument("--rho", type=_positive, nargs="+", default=[0.01, 0.05, 0.1], help="radii of m-sharpness")
    sharp.add_argument("--adaptive-rho", type=_positive, nargs="+", default=[0.1, 0.5, 1.0], help="in ASAM's norm")
    sharp.add_argument("--ascent-steps", type=count, default=1, help="1: SAM's own ascent")

    scape = parser.add_argument_group("landscape")
    sizes = ("CURVE", "SURFACE")
    scape.add_argument("--grid", type=_odd, nargs=2, default=[41, 21], metavar=sizes, help="points a direction, odd")
    scape.add_argument("--span", type=_positive, default=1.0, help="how far to go, in filter norms")
    return parser


def _several(text: str) -> int:
    return number(text, int, lambda value: value >= 2, "a whole number of at least 2: their spread is the error")


def _odd(text: str) -> int:
    what = "an odd number of at least 3, so that the minimum itself is one of the points"
    return number(text, int, lambda value: value >= 3 and value % 2 == 1, what)


def _positive(text: str) -> float:
    return number(text, float, lambda value: 0 < value < float("inf"), "a finite number above 0")
