"""What is measured of a run beside its loss, as those who show it must know it. Needs no torch: reports read it too."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

PARTS = ("train", "val", "test")  # of a data set, as columns begin with them


@dataclass(frozen=True)
class Column:
    """One number of a set of examples.

    Args:
        name: as in `val_<name>`, a word that can be a column of a csv file.
        unit: "%" for a share of 1, which is shown a hundredfold; any other stands behind the number.
        better: which direction is.
        when: of which parts it is measured.

    Raises:
        ValueError: a name, direction or part that is none.
    """

    name: str
    unit: str = ""
    better: Literal["higher", "lower"] = "higher"
    when: tuple[str, ...] = PARTS

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"name={self.name!r}: the name of a column must be a word such as top5_accuracy")
        if self.better not in ("higher", "lower"):
            raise ValueError(f"better={self.better!r}: must be higher or lower")
        if not set(self.when) <= set(PARTS):
            raise ValueError(f"when={self.when}: must be of {', '.join(PARTS)}")

    @property
    def words(self) -> str:
        """The name as people read it."""
        return self.name.replace("_", " ")

    @property
    def title(self) -> str:
        """The name and what it is measured in; a share needs no unit."""
        return self.words if self.unit in ("", "%") else f"{self.words}, {self.unit}"

    @property
    def factor(self) -> float:
        """From the number to what is shown of it."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def sign(self) -> int:
        """1 where more is better, −1 where less is."""
        return 1 if self.better == "higher" else -1

    @property
    def superlative(self) -> str:
        """What the best of several is called."""
        return "highest" if self.better == "higher" else "lowest"

    def show(self, value: float, digits: int = 2) -> str:
        """The number with its unit, as in 93.27% and 0.1235 nats."""
        if self.unit == "%":
            return f"{100 * value:.{digits}f}%"
        return f"{value:.{digits + 2}g}{' ' if self.unit else ''}{self.unit}"

    def beats(self, value: float, other: float) -> bool:
        """Whether `value` is strictly better; one that is not a number never is, and always is beaten."""
        if math.isnan(value) or math.isnan(other):
            return not math.isnan(value)
        return self.sign * (value - other) > 0


@dataclass(frozen=True)
class Columns:
    """What a task measures: its loss, and scores, one of which chooses between epochs and between runs.

    Args:
        scores: in the order of the tables.
        selects: name of the score that chooses, or "loss".
        loss: the loss as a column.

    Raises:
        ValueError: a name twice, `selects` not among them, or not measured on validation and test examples.
    """

    scores: tuple[Column, ...] = ()
    selects: str = "loss"
    loss: Column = Column("loss", better="lower")

    def __post_init__(self) -> None:
        names = [column.name for column in self.all]
        if self.loss.name != "loss" or len({*names}) < len(names):
            raise ValueError(f"columns {', '.join(names)}: each needs a name of its own, and the loss is called loss")
        if self.selects not in names:
            raise ValueError(f"selects={self.selects!r}: must be one of {', '.join(names)}")
        if not {"val", "test"} <= {*self.selected.when}:
            raise ValueError(f"selects={self.selects!r}: what chooses must be measured on val and test")

    @property
    def all(self) -> tuple[Column, ...]:
        return (self.loss, *self.scores)

    @property
    def selected(self) -> Column:
        """The column that chooses."""
        return next(column for column in self.all if column.name == self.selects)

    @property
    def score(self) -> Column:
        """The one to show beside the loss: what chooses, or where that is the loss itself the first validated score."""
        validated = [column for column in self.scores if "val" in column.when]
        return validated[0] if self.selects == "loss" and validated else self.selected

    def of(self, part: str) -> list[str]:
        """The columns of a csv file for one part, as in `val_loss`."""
        return [f"{part}_{column.name}" for column in self.all if part in column.when]

    def plain(self) -> list[dict[str, Any]]:
        """As it stands in `summary.json`."""
        return [{**asdict(column), "selects": column == self.selected} for column in self.all]


def written(summary: Mapping[str, Any]) -> Columns:
    """What a run's summary says of its columns.

    In a run that is older than that every score is a share of the examples, and the first of them chooses.

    Raises:
        ValueError: it is not what `Columns.plain` writes.
    """
    plain = summary.get("columns")
    if plain is None:
        names = [name.partition("_")[2] for name in summary if name.partition("_")[0] in PARTS]
        scores = tuple(Column(name, "%") for name in dict.fromkeys(names) if name != "loss")
        return Columns(scores, scores[0].name if scores else "loss")
    try:
        found = [(_column(entry), bool(entry["selects"])) for entry in plain]
        [selects] = [column.name for column, selected in found if selected]
        return Columns(tuple(column for column, _ in found[1:]), selects, found[0][0])
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"columns: not as they are written down ({error})") from error


def _column(entry: Mapping[str, Any]) -> Column:
    return Column(str(entry["name"]), str(entry["unit"]), entry["better"], tuple(entry["when"]))
