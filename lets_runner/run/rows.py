"""Trajectories as csv: rows are appended, and those past a checkpoint dropped, never anything in between."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from lets_runner.run.files import write_whole


def check_header(path: Path, columns: Sequence[str]) -> None:
    """That rows of these columns can go on below what is there.

    Raises:
        ValueError: the file has others.
    """
    header = path.read_text(encoding="utf-8").splitlines(keepends=True)[:1] if path.exists() else []
    if header and header[0].endswith("\n") and header[0].strip() != ",".join(columns):
        raise ValueError(
            f"{path}: has other columns ({header[0].strip()[:300]}) than this run would write ({','.join(columns)}): "
            "another version or another measure wrote it; move the directory away"
        )


def append_rows(path: Path, columns: Sequence[str], rows: Sequence[dict[str, float]]) -> None:
    new = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(columns)
        writer.writerows([[_cell(row[column]) for column in columns] for row in rows])


def _cell(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.9g}"


def read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def drop_rows(path: Path, step: int) -> None:
    """Keep the header and the rows up to `step`; a line that was being written when the run died goes too."""
    if not path.exists():
        return
    header, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
    column = header.strip().split(",").index("step") if header.strip() else 0
    kept = []
    for line in lines:
        cells = line.split(",")
        if line.endswith("\n") and cells[column].isdigit() and int(cells[column]) <= step:
            kept.append(line)
    if not header.endswith("\n"):
        path.unlink()
        return
    write_whole(path, lambda file: file.write((header + "".join(kept)).encode()))
