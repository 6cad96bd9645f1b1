"""What lets-eval has measured of runs, as far as tables need it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lets_runner.columns import Column
from lets_runner.report.grid import Cell, Grid, grouped
from lets_runner.report.rows import Row

CALIBRATION = (Column("nll", "nats", "lower"), Column("brier", better="lower"), Column("ece", "%", "lower"))


@dataclass(frozen=True)
class Evaluated:
    """Runs of a cell that were measured on the same `data` with the same corruptions, by name and severity."""

    cell: Cell
    checkpoint: str
    data: str
    corruptions: frozenset[tuple[str, str]]

    @property
    def words(self) -> str:
        """What they were measured on."""
        return self.data + ("" if self.checkpoint == "last" else f", {self.checkpoint}.pt")

    @property
    def spoiled(self) -> str:
        """How many corruptions there were, and severities of them all together."""
        names = {name for name, _ in self.corruptions}
        return f"{len(names)} ({len(self.corruptions)} sets)" if names else "none"

    @property
    def sets(self) -> list[tuple[str, str]]:
        """What they were measured on, as corruption and severity: first the data as they are, if they were."""
        return sorted({(row.corruption, row.severity) for rows in self._rows() for row in rows})

    def clean(self, name: str) -> list[float | None]:
        """A score of each run on the data as they are."""
        return self.at(name, ("", ""))

    def corrupted(self, name: str) -> list[float | None]:
        """Its mean over the corrupted sets."""
        found = [[row.scores[name] for row in rows if row.corruption and name in row.scores] for rows in self._rows()]
        return [sum(values) / len(values) if values else None for values in found]

    def at(self, name: str, about: tuple[str, str]) -> list[float | None]:
        """A score of each run on one set: (corruption, severity), empty for the data as they are."""
        return [
            next((row.scores.get(name) for row in rows if (row.corruption, row.severity) == about), None)
            for rows in self._rows()
        ]

    def _rows(self) -> Iterable[list[Row]]:
        for run in self.cell.runs:
            yield [row for row in run.evaluation if (row.checkpoint, row.data) == (self.checkpoint, self.data)]


def evaluated(grid: Grid) -> list[Evaluated]:
    """The cells as far as their runs were measured again, one for every data set and choice of corruptions."""
    found = []
    for cell in grid.cells:
        for about in dict.fromkeys((row.checkpoint, row.data) for run in cell.runs for row in run.evaluation):
            rows = {run.directory: [r for r in run.evaluation if (r.checkpoint, r.data) == about] for run in cell.runs}
            runs = [run for run in cell.runs if rows[run.directory]]
            sets = {
                path: frozenset((r.corruption, r.severity) for r in of if r.corruption) for path, of in rows.items()
            }
            for alike in grouped(runs, lambda run, sets=sets: sets[run.directory]):  # type: ignore[misc]
                found.append(Evaluated(replace(cell, runs=alike), *about, sets[alike[0].directory]))
    return found


def measured(found: Iterable[Evaluated], score: Column) -> bool:
    """Whether any of them has this score."""
    return any(score.name in row.scores for one in found for run in one.cell.runs for row in run.evaluation)
