"""Vectors from a file, `path`, with numbers or a class to predict for each; see `read_numbers` for its form."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lets_runner.data.labelled import LabelledData
from lets_runner.data.loader import TensorLoader
from lets_runner.data.numbers import Numbers, read_numbers
from lets_runner.data.splits import Examples, SplitData, Splits, at_random, check_seed, stratified
from lets_runner.data.stream import WHOLE, Share
from lets_runner.data.transforms import Transform, VectorTransform


@dataclass(frozen=True)
class Scale:
    """To float32, and to mean 0 and standard deviation 1; both float64 of the shape of one row."""

    mean: torch.Tensor
    std: torch.Tensor

    @classmethod
    def of(cls, train: torch.Tensor, *, wanted: bool) -> "Scale":
        """That of some rows; a constant is only shifted. Where it is not wanted, the one that changes nothing."""
        if not wanted:
            return cls(torch.zeros_like(train[0]), torch.ones_like(train[0]))
        constant = train.amin(0) == train.amax(0)
        return cls(train.mean(0), torch.where(constant, 1.0, train.std(0, correction=0)))

    @classmethod
    def known(cls, mean: Any, std: Any) -> "Scale":
        return cls(*(torch.tensor(each, dtype=torch.float64) for each in (mean, std)))

    def __call__(self, numbers: torch.Tensor) -> torch.Tensor:
        return ((numbers - self.mean) / self.std).to(torch.float32)


class Tabular(SplitData):
    """What both kinds of tables have in common. Files are read at once: a model depends on the number of columns.

    Args:
        path: a `.csv` or `.npz`.
        target: the column to predict, or a list of several; None for an npz.
        test_path: the test set, of the same form; None to take a part of `path`.
        test_fraction: which share of it, in (0, 1).
        test_seed: which examples those are; independent of every other seed.
        standardise_inputs: shift and scale every input to mean 0 and standard deviation 1 over the training part.
        settings: see `SplitData`.

    Raises:
        OSError: no such file.
        ValueError: a setting out of its range, or a file that is not what it should be, in one line.
    """

    def __init__(
        self,
        path: str,
        *,
        target: str | Sequence[str] | None = None,
        test_path: str | None = None,
        test_fraction: float = 0.2,
        test_seed: int = 0,
        standardise_inputs: bool = True,
        **settings: Any,
    ):
        super().__init__(**settings)
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction={test_fraction}: must lie in (0, 1)")
        check_seed("test_seed", test_seed)
        self.test_fraction, self.test_seed, self.standardise_inputs = test_fraction, test_seed, standardise_inputs
        self._train = read_numbers(Path(path).expanduser(), target)
        self._test = None if test_path is None else read_numbers(Path(test_path).expanduser(), target)
        if self._test is not None:
            _check_same_form(self._train, self._test, test_path)
        self.shape = self._train.inputs.shape[1:]
        self._scales: tuple[Scale, Scale | None] | None = None  # of inputs and of targets

    def read(self) -> tuple[Examples, Examples]:
        """The examples in double precision, not yet standardised."""
        if self._test is not None:
            return self.examples(self._train), self.examples(self._test)
        every = self.examples(self._train)
        train, test = self.divide_test(every)
        if not len(train) or not len(test):
            raise ValueError(f"test_fraction={self.test_fraction}: leaves no example of {len(every)} on one side")
        return every[train], every[test]

    def divide_test(self, every: Examples) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices of the training and of the test set."""
        return at_random(len(every), self.test_fraction, seed=self.test_seed)

    def examples(self, numbers: Numbers) -> Examples:
        """Numbers from a file as inputs and targets."""
        return Examples(torch.from_numpy(numbers.inputs), torch.from_numpy(numbers.targets))

    def splits(self) -> Splits:
        splits = super().splits()
        if self._scales is None:
            inputs = Scale.of(splits.train.inputs, wanted=self.standardise_inputs)
            self._scales = inputs, self.target_scale(splits.train.targets)
        inputs, targets = self._scales
        scaled = [(inputs(part.inputs), targets(part.targets) if targets else part.targets) for part in _parts(splits)]
        return Splits(*(Examples(*part) for part in scaled))

    def target_scale(self, train: torch.Tensor) -> Scale | None:
        """What makes targets of a file those of a task, given those of the training part; None to leave them."""
        return None

    @property
    def transform(self) -> VectorTransform:
        if self._scales is None:
            self.splits()
        assert self._scales is not None
        inputs, targets = self._scales
        form: Any = {"mean": inputs.mean.tolist(), "std": inputs.std.tolist()}
        form |= {} if targets is None else {"target_mean": targets.mean.tolist(), "target_std": targets.std.tolist()}
        return VectorTransform.of(
            {"outputs": self.outputs, "shape": list(self.shape), "columns": self._columns, **form}
        )

    def adopt(self, transform: Transform) -> None:
        if not isinstance(transform, VectorTransform):
            raise ValueError(f"are rows of numbers, and the model takes {transform.kind}")
        if (transform.shape, transform.columns, transform.outputs) != (tuple(self.shape), self._columns, self.outputs):
            raise ValueError(
                f"rows are {tuple(self.shape)}, to {self.outputs} outputs; the model takes {transform.shape}, to "
                f"{transform.outputs}, of columns in the same order"
            )
        targets = None if transform.target_mean is None else Scale.known(transform.target_mean, transform.target_std)
        self._scales = Scale.known(transform.mean, transform.std), targets

    @property
    def _columns(self) -> tuple[str, ...] | None:
        return self._train.columns

    def loader(
        self,
        examples: Examples,
        *,
        batch_size: int,
        seed: tuple[int, ...],
        device: torch.device,
        augmented: bool,
        channels_last: bool = False,
        share: Share = WHOLE,
    ) -> TensorLoader:
        return TensorLoader(examples, batch_size=batch_size, seed=seed, device=device, share=share)


class Table(Tabular):
    """Vectors, and numbers to predict: for `task=regression`. Splits are drawn at random.

    Args:
        standardise_targets: shift and scale every target as `standardise_inputs` does inputs; the mean squared error
            then is in units of its variance over the training part.
        settings: see `Tabular`.
    """

    target_kind = "numbers"

    def __init__(self, path: str, *, standardise_targets: bool = True, **settings: Any):
        super().__init__(path, **settings)
        self.standardise_targets = standardise_targets

    @property
    def outputs(self) -> int:
        return self._train.targets.shape[1]

    def target_scale(self, train: torch.Tensor) -> Scale:
        return Scale.of(train, wanted=self.standardise_targets)


class LabelledTable(Tabular, LabelledData):
    """Vectors, and one class for each, a whole number from 0: for `task=classification`. Splits are stratified.

    Args:
        settings: see `Tabular`, and `LabelledData` for label noise.
    """

    def __init__(self, path: str, **settings: Any):
        super().__init__(path, **settings)
        self.classes = _checked_classes(self._train.targets)
        if self._test is not None and not set(np.unique(self._test.targets)) <= set(range(self.classes)):
            raise ValueError(f"test_path: has other classes than the {self.classes} of the training set")

    def examples(self, numbers: Numbers) -> Examples:
        return Examples(torch.from_numpy(numbers.inputs), torch.from_numpy(numbers.targets[:, 0].astype(np.int64)))

    def divide_test(self, every: Examples) -> tuple[torch.Tensor, torch.Tensor]:
        return stratified(every.targets, self.test_fraction, seed=self.test_seed)


def _parts(splits: Splits) -> tuple[Examples, Examples, Examples]:
    return splits.train, splits.val, splits.test


def _check_same_form(train: Numbers, test: Numbers, path: str | None) -> None:
    if test.columns != train.columns:
        raise ValueError(f"test_path={path}: its columns are not those of the training set, in the same order")
    if test.inputs.shape[1:] != train.inputs.shape[1:] or test.targets.shape[1:] != train.targets.shape[1:]:
        raise ValueError(f"test_path={path}: its examples are of another shape than those of the training set")


def _checked_classes(targets: np.ndarray) -> int:
    """How many classes there are.

    Raises:
        ValueError: they are not the whole numbers from 0 on.
    """
    if targets.shape[1] != 1:
        raise ValueError(f"target: names {targets.shape[1]} columns, and a class is one number")
    found = np.unique(targets)
    if len(found) < 2 or not np.array_equal(found, np.arange(len(found))):
        words = ", ".join(f"{value:g}" for value in found[:10]) + (", ..." if len(found) > 10 else "")
        raise ValueError(f"target: the classes are {words}; must be 0, 1, ... without a gap, and two at least")
    return len(found)
