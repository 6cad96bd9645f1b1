"""`lets-export`: the model of a run as one file that says what it is, checked against that model first."""

import argparse
import os
import sys
from pathlib import Path

from lets_runner.arguments import Parser
from lets_runner.config import UserError
from lets_runner.export.formats import FORMATS, SUFFIXES
from lets_runner.run.files import TEMPORARY, writing
from lets_runner.trained import CHECKPOINTS, load

TOLERANCE = 1e-5  # between the scores of the file and the model's, relative to the largest where that is above 1


def main() -> None:
    """The console script; what a user can fix is one line on standard error and exit code 2."""
    parser = _parser()
    asked = parser.parse_args()
    parser.warn_in_lines()
    try:
        print(export(asked.run, asked.checkpoint, asked.format, asked.out))
    except (UserError, ValueError, OSError) as error:
        sys.exit(parser.complain(str(error)))


def _parser() -> Parser:
    parser = Parser(
        "lets-export",
        usage="lets-export RUN [options]",
        description="Write the model of a run as one file, with its configuration, its class names and what it takes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    parser.add_argument("--checkpoint", choices=CHECKPOINTS, default="best", help="which weights")
    parser.add_argument(
        "--format",
        choices=list(FORMATS),
        default="safetensors",
        help="safetensors: weights, for lets_runner.load; onnx, torch (torch.export): the network itself",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: RUN/export/<checkpoint>.<suffix>")
    return parser


def export(run: Path, checkpoint: str, form: str, out: Path | None = None) -> str:
    """Write the file; returns what was written, in a line.

    Raises:
        ValueError: there is no such model, it cannot have this form, or the file's scores are not the model's.
        UnwritableError: of the folder.
    """
    trained = load(run, checkpoint, device="cpu")
    path = out or run / "export" / f"{checkpoint}{SUFFIXES[form]}"
    if path.suffix != SUFFIXES[form]:
        raise ValueError(f"--out {path}: of --format {form} a file's name must end in {SUFFIXES[form]}")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}{TEMPORARY}{path.suffix}")
    try:
        difference, count = FORMATS[form](trained, temporary)
        if not difference <= TOLERANCE:
            raise ValueError(f"{path} is not written: its scores are {difference:.1g} away from the model's")
        with writing(path.parent):
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    weights = sum(parameter.numel() for parameter in trained.model.parameters())
    checked = f"scores within {difference:.1g} on {count} examples" if count else "read again, and the same"
    return f"{path}: {weights:,} parameters of step {trained.step}; {checked}"


if __name__ == "__main__":
    main()
