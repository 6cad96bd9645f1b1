"""`evaluation.csv` in a run directory: a row for everything that its model was measured on."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lets_runner.run.files import EVALUATION, write_whole, writing

KEYS = ("checkpoint", "data", "corruption", "severity")  # what a row is about; the rest is what was measured
FACTS = (*KEYS, "step", "weights", "examples", "identity")


class Record:
    """The rows of one run, oldest first; each is there once. Rows of weights that the run no longer has are dropped.

    Args:
        weights: what tells the weights of `checkpoint` from others.
        columns: the names of what is measured.

    Raises:
        ValueError: there is a file that no `Record` has written; one line.
    """

    def __init__(self, directory: Path, *, checkpoint: str, weights: str, columns: Sequence[str]):
        self.path = directory / EVALUATION
        self.header = [*FACTS, *columns]
        self.common = {"checkpoint": checkpoint, "weights": weights}
        self.rows = [row for row in self._read() if row["checkpoint"] != checkpoint or row["weights"] == weights]

    def has(self, data: str, corruption: str, severity: int | str, *, identity: str) -> bool:
        """Whether this was measured, of the very examples that `identity` stands for."""
        return any(self._about(row, data, corruption, severity) and row["identity"] == identity for row in self.rows)

    def add(
        self, data: str, corruption: str, severity: int | str, facts: dict[str, Any], scores: dict[str, float]
    ) -> None:
        """Write a row, in place of an earlier one about the same.

        Raises:
            UnwritableError: of the directory.
        """
        about = {"data": data, "corruption": corruption, "severity": severity}
        new = {**self.common, **about, **facts, **{name: f"{value:.9g}" for name, value in scores.items()}}
        self.rows = [row for row in self.rows if not self._about(row, data, corruption, severity)]
        self.rows.append({name: str(new.get(name, "")) for name in self.header})  # not all is measured of every part
        text = io.StringIO()
        writer = csv.DictWriter(text, self.header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        with writing(self.path.parent):
            write_whole(self.path, lambda file: file.write(text.getvalue().encode()))

    def _about(self, row: dict[str, str], *about: int | str) -> bool:
        return [row[key] for key in KEYS] == [self.common["checkpoint"], *map(str, about)]

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        try:
            with open(self.path, newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file, strict=True)
                rows = list(reader)
                header = list(reader.fieldnames or ())
        except (OSError, ValueError, csv.Error) as error:
            raise ValueError(f"{self.path.name} cannot be read ({error}); put it right, or move it away") from error
        if header != self.header or any(None in row.values() or None in row for row in rows):
            raise ValueError(f"{self.path.name} has other columns than {', '.join(self.header)}; move it away")
        return rows
