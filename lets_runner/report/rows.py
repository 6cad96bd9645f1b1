"""`evaluation.csv` of a run, which lets-eval writes: a row for every set of examples that its model was measured on."""

import csv
from dataclasses import dataclass
from pathlib import Path

from lets_runner.report.foreign import ForeignError, check_file, is_number, printable

ABOUT = ("checkpoint", "data", "corruption", "severity")
FACTS = (*ABOUT, "step", "weights", "examples", "identity")


@dataclass(frozen=True)
class Row:
    """One set of examples: `corruption` and `severity` are empty where it was not spoiled."""

    checkpoint: str
    data: str
    corruption: str
    severity: str
    scores: dict[str, float]


def read_rows(path: Path) -> list[Row]:
    """The rows of a run, none where it was not measured again.

    Raises:
        ForeignError: it is no file that lets-eval writes.
    """
    if not path.exists():
        return []
    check_file(path)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [_row(line) for line in csv.DictReader(file, strict=True)]
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise ForeignError(f"{path.name} holds what lets-eval does not write; remove it, or measure again") from error


def _row(line: dict[str, str]) -> Row:
    scores = {name: float(value) for name, value in line.items() if name not in FACTS and value != ""}
    if not all(map(is_number, scores.values())):
        raise ValueError
    checkpoint, data, corruption, severity = (printable(line[name]) for name in ABOUT)
    return Row(checkpoint, data, corruption, severity, scores)
