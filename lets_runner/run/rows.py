"""Trajectories as csv: rows are appended, and those past a checkpoint dropped, never anything in between."""

import csv
import math
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from lets_runner.run.files import write_whole

Row = dict[str, float]


class Table:
    """A csv file of numbers, nan where a cell is empty; its first column counts the rows from 1."""

    def __init__(self, path: Path, columns: Sequence[str]):
        self.path, self.columns = path, tuple(columns)

    def check_header(self) -> None:
        """That rows can go on below what is there.

        Raises:
            ValueError: the file has other columns.
        """
        header, *rows = self._lines()
        if rows and header != ",".join(self.columns):
            raise ValueError(
                f"{self.path}: has other columns ({header[:300]!r}) than this run would write "
                f"({','.join(self.columns)}): it is damaged, or another version or another measure wrote it; "
                "put back what was there, or move the directory away to start over"
            )

    def append(self, rows: Sequence[Row]) -> None:
        new = not self.path.exists()
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(self.columns)
            writer.writerows([[_cell(row[column]) for column in self.columns] for row in rows])

    def read(self) -> list[Row]:
        """The rows as far as they are sound: the last one may have been cut off in the middle."""
        rows = []
        for number, line in enumerate(self._lines()[1:-1], 1):
            if (row := self._parse(line, number)) is None:
                break
            rows.append(row)
        return rows

    def check(self, count: int) -> None:
        """That the first `count` rows are there and sound.

        Raises:
            ValueError: they are not; the text goes on from what needs them.
        """
        rows = self._lines()[1:-1][:count]
        for number, line in zip_longest(range(1, count + 1), rows):
            if line is None or self._parse(line, number) is None:
                what = "missing" if line is None else "damaged"
                raise ValueError(f"needs row {number} of {self.path}, which is {what}")

    def cut(self, count: int) -> None:
        """Keep the header and the first `count` rows."""
        header, *rows = self._lines()
        if rows:
            text = "".join(f"{line}\n" for line in (header, *rows[:-1][:count]))
            write_whole(self.path, lambda file: file.write(text.encode()))
        else:  # not even a header
            self.path.unlink(missing_ok=True)

    def _lines(self) -> list[str]:
        """The last is what follows the last line end: nothing, if all is well."""
        return self.path.read_text(encoding="utf-8", errors="replace").split("\n") if self.path.exists() else [""]

    def _parse(self, line: str, number: int) -> Row | None:
        """A line as numbers; None if it is not row `number` of this table."""
        try:
            values = [float(cell or "nan") for cell in line.split(",")]
            row = dict(zip(self.columns, values, strict=True))
        except ValueError:
            return None
        return row if values[0] == number else None


def _cell(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.9g}"
