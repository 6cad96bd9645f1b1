"""What a tracker is: it gets a run's start, every record and its end."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from lets_runner.record import Record

RESULTS = ("config.yaml", "epochs.csv", "steps.csv", "summary.json", "curves.png")
CHECKPOINTS = ("checkpoints/last.pt", "checkpoints/best.pt")
ARTEFACTS = {"none": (), "results": RESULTS, "checkpoints": RESULTS + CHECKPOINTS}


class Tracker(ABC):
    """Subclass it with `start`, `log` and `finish`, and name the class in a yaml; a `Guard` calls all three.

    They run in a process of their own beside the training, one call after the other, and may raise, wait, seed and
    change directory as they like. The tracker as constructed, its class and its arguments are pickled on the way.

    Args:
        every_steps: of the rows of steps those whose step is a multiple of this; None for none. Epochs always.
        artefacts: which files of the run directory `finish` gets: none, results (all but checkpoints) or checkpoints
            (results and last.pt and best.pt).
        patience: seconds for which the end of a run waits for a tracker that owes an answer and does nothing: a server
            that is down costs no more than that. One that takes in large files may want more.

    Raises:
        ValueError: a setting is impossible, or one of `packages` is not installed.
    """

    packages: ClassVar[tuple[str, ...]] = ()  # which it imports, in `start` at the earliest
    extra: ClassVar[str] = ""  # of lets_runner, that brings them

    def __init__(self, *, every_steps: int | None = 10, artefacts: str = "results", patience: float = 3.0):
        if every_steps is not None and not (isinstance(every_steps, int) and every_steps >= 1):
            raise ValueError(
                f"every_steps={every_steps}: must be a whole number of at least 1, or null for epochs only"
            )
        if artefacts not in ARTEFACTS:
            raise ValueError(f"artefacts={artefacts}: must be one of {', '.join(ARTEFACTS)}")
        if not patience >= 0:
            raise ValueError(f"patience={patience}: must be at least 0, in seconds")
        if missing := [package for package in self.packages if find_spec(package) is None]:
            raise ValueError(f"{', '.join(missing)} not installed: pip install 'lets_runner[{self.extra}]'")
        self.every_steps, self.artefacts, self.patience = every_steps, artefacts, patience

    @abstractmethod
    def start(
        self, directory: Path, *, experiment: str, name: str, config: dict[str, Any], known_as: str | None, step: int
    ) -> str:
        """Begin a run, or go on with one.

        Args:
            directory: of the run.
            experiment: data set and model; `name`: method and seed.
            config: the resolved configuration, nested.
            known_as: what `start` returned when this run began; None if it begins now.
            step: from which training goes on; 0 at the beginning. Rows after it may have been logged before.

        Returns:
            what to call this run when it goes on.
        """

    @abstractmethod
    def log(self, record: Record) -> None:
        """Take the rows that are new; `points` has them as most tools want them."""

    @abstractmethod
    def finish(self, summary: dict[str, Any], files: list[Path]) -> None:
        """Training has ended, for good or for now: `summary` is that of summary.json, `files` the artefacts."""

    def points(self, record: Record) -> Iterator[tuple[int, dict[str, float]]]:
        """Optimizer steps and what is known at them: `step/loss`, `step/rho`, ..., `epoch/val_accuracy`, ..."""
        for row in record.steps:
            if self.every_steps is not None and row["step"] % self.every_steps == 0:
                yield int(row["step"]), numbers("step", row)
        if record.epoch is not None:
            yield int(record.epoch["step"]), numbers("epoch", record.epoch)

    def files(self, directory: Path) -> list[Path]:
        """The artefacts that there are."""
        return [path for name in ARTEFACTS[self.artefacts] if (path := directory / name).exists()]


def numbers(prefix: str, row: dict[str, Any]) -> dict[str, float]:
    """`prefix/name`: value, without the step itself, text, truth values, and nan, which stands for "there is none"."""
    return {
        f"{prefix}/{name}": value
        for name, value in row.items()
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool) and value == value
    }
