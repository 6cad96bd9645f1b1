"""GLUE: nine tasks of understanding sentences, and pairs of them, in the files as they are published.

Wang, Singh, Michael, Hill, Levy, Bowman, *GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language
Understanding*, ICLR 2019 (arXiv 1804.07461); https://gluebenchmark.com/tasks. The labels of its test sets are not
published: its development sets are the test sets here, and validation sets are parts of its training sets.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lets_runner.data.labelled import LabelledData
from lets_runner.data.regular import check_regular
from lets_runner.data.splits import SplitData
from lets_runner.data.text.texts import TextData, Texts

WHERE = "GLUE's files are to be had at https://gluebenchmark.com/tasks"
TWO = ("0", "1")
Task = Literal["cola", "sst2", "mrpc", "stsb", "rte", "wnli", "qnli", "qqp", "mnli"]


@dataclass(frozen=True)
class Layout:
    """Where a task's texts and targets stand: by the names of columns, or by their places if a file has no header."""

    folder: str
    texts: Sequence[str | int]
    target: str | int
    labels: Sequence[str] | None = TWO  # class 0, 1, ...; None where targets are numbers
    dev: str = "dev.tsv"


ENTAILED = ("not_entailment", "entailment")
PAIR = ("sentence1", "sentence2")
LAYOUTS = {
    "cola": Layout("CoLA", (3,), 1),
    "sst2": Layout("SST-2", ("sentence",), "label"),
    "mrpc": Layout("MRPC", ("#1 String", "#2 String"), "Quality"),
    "stsb": Layout("STS-B", PAIR, "score", labels=None),
    "rte": Layout("RTE", PAIR, "label", ENTAILED),
    "wnli": Layout("WNLI", PAIR, "label"),
    "qnli": Layout("QNLI", ("question", "sentence"), "label", ENTAILED),
    "qqp": Layout("QQP", ("question1", "question2"), "is_duplicate"),
    "mnli": Layout("MNLI", PAIR, "gold_label", ("contradiction", "neutral", "entailment"), "dev_matched.tsv"),
}


class GLUE(TextData, LabelledData):
    """One task of GLUE.

    Args:
        task: one of `LAYOUTS`.
        root: the folder that has the tasks' folders, `CoLA`, `SST-2`, ..., or has them in a folder `glue`.
        mismatched: of MNLI, whether the test set is of other sources than the training set (`dev_mismatched.tsv`).
        settings: see `TextData`, and `LabelledData` for label noise; STS-B has scores, which have none, and its
            validation set is drawn at random.

    Raises:
        ValueError, OSError: a setting out of its range; in `splits`, files that are not what they should be.
    """

    def __init__(self, *, task: Task, root: str = "data", mismatched: bool = False, **settings: Any):
        super().__init__(**settings)
        if task not in LAYOUTS:
            raise ValueError(f"task={task}: must be one of {', '.join(LAYOUTS)}")
        if mismatched and task != "mnli":
            raise ValueError(f"mismatched=True: only MNLI has such a test set, not task={task}")
        self.task, self.layout, self.root = task, LAYOUTS[task], Path(root).expanduser()
        self.dev = "dev_mismatched.tsv" if mismatched else self.layout.dev
        self.target_kind = "numbers" if self.layout.labels is None else "classes"
        if self.target_kind == "numbers" and (self.label_noise or self.val_label_noise):
            raise ValueError(
                f"label_noise={self.label_noise}: task={task} has scores, and no labels to spoil; leave it 0"
            )
        self.classes = len(self.layout.labels or ("score",))
        self.class_names = tuple(self.layout.labels) if self.layout.labels else None

    def read(self) -> tuple[Texts, Texts]:
        return self._texts("train.tsv"), self._texts(self.dev)

    def divide(self, train: Texts) -> tuple[Tensor, Tensor]:
        kind = SplitData if self.target_kind == "numbers" else LabelledData
        return kind.divide(self, train)

    def _texts(self, name: str) -> Texts:
        path = self._path(name)
        columns = read_columns(path, [*self.layout.texts, self.layout.target])
        targets = self._targets(path, columns[-1])
        return Texts(columns[0], columns[1] if len(columns) > 2 else None, targets)

    def _path(self, name: str) -> Path:
        for folder in (self.root / "glue" / self.layout.folder, self.root / self.layout.folder):
            if (folder / name).exists():
                check_regular(folder / name)
                return folder / name
        raise FileNotFoundError(
            f"root={self.root}: has no {self.layout.folder}/{name}, nor has a folder glue in it; {WHERE}"
        )

    def _targets(self, path: Path, words: list[str]) -> Tensor:
        try:
            if self.layout.labels is None:
                return torch.tensor([_finite(word) for word in words]).unsqueeze(1)
            ids = {label: place for place, label in enumerate(self.layout.labels)}
            return torch.tensor([ids[word] for word in words])
        except (KeyError, ValueError) as error:
            what = "a number" if self.layout.labels is None else f"one of {', '.join(self.layout.labels)}"
            raise ValueError(f"{path}: {self.layout.target} {error} is not {what}; {WHERE}") from error


def read_columns(path: Path, columns: Sequence[str | int]) -> list[list[str]]:
    """Some columns of a file whose cells are set apart by tabs; quotation marks are text like any other.

    Lines with too few cells are left out, with a warning that says how many: QQP is known to have some.

    Args:
        columns: their names in the first line; or their places, where there is no such line.

    Raises:
        ValueError: there are no such columns, or no text.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="\n") as file:
            rows = [line.rstrip("\r\n").split("\t") for line in file]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no text in UTF-8; {WHERE}") from error
    names = rows.pop(0) if rows and isinstance(columns[0], str) else []
    if lacking := [column for column in columns if isinstance(column, str) and column not in names]:
        raise ValueError(f"{path}: its first line names no column {lacking[0]}; {WHERE}")
    places = [names.index(column) if isinstance(column, str) else column for column in columns]
    whole = [row for row in rows if len(row) > max(places)]
    if len(whole) < len(rows):
        text = f"{path}: {len(rows) - len(whole)} of {len(rows)} lines have too few cells and are left out"
        warnings.warn(text, stacklevel=2)
    if not whole:
        raise ValueError(f"{path}: has no lines with texts and targets; {WHERE}")
    return [[row[place] for row in whole] for place in places]


def _finite(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(repr(word))
    return number
