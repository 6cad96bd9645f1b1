"""What every data set hands over: training, validation and test examples, and loaders that make batches of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lets_runner.data.stream import WHOLE, Share
from lets_runner.data.transforms import Transform


@dataclass(frozen=True)
class Examples:
    """Inputs of shape (N, ...) and any type, and their targets: int64 classes (N,), or float32 numbers (N, K)."""

    inputs: Tensor
    targets: Tensor

    @property
    def images(self) -> Tensor:
        """The inputs of a set of images: uint8 of shape (N, C, H, W)."""
        return self.inputs

    @property
    def labels(self) -> Tensor:
        """The targets, where they are classes."""
        return self.targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Tensor) -> "Examples":
        return Examples(self.inputs[index], self.targets[index])

    def to(self, device: torch.device) -> "Examples":
        return Examples(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set, in whatever form it keeps them. Only `test` is free of label noise, always."""

    train: Any
    val: Any
    test: Any


class Data(ABC):
    """A data set as the runner sees it: what a model must fit, the parts, and how batches are made of a part."""

    shape: Any  # of one example's inputs: of an image (channels, height, width); of a text what a model must know of it
    classes: int  # where targets are classes
    # None: the data set does not say, and any task may try
    target_kind: Literal["classes", "numbers", "sentences"] | None = None
    val_fraction: float  # of the training set that is held out; 0 for no validation set
    mixes = False  # whether targets of training batches are shares of classes, (B, classes)
    varying: str | None = None  # why batches are not all of one shape, and the remedy; None where they are

    @property
    def outputs(self) -> int:
        """How many numbers a model gives for one example: the score of every class, or the numbers to predict."""
        return self.classes

    @abstractmethod
    def splits(self) -> Splits:
        """The same three parts every time. Files that are missing or of the wrong form are found here.

        Raises:
            OSError, ValueError: no data, or not what they should be; one line that says how to fix it.
        """

    @abstractmethod
    def loader(
        self,
        examples: Any,
        *,
        batch_size: int,
        seed: tuple[int, ...],
        device: torch.device,
        augmented: bool,
        channels_last: bool = False,
        share: Share = WHOLE,
    ) -> Any:
        """Batches of one part: `len` of them in an epoch, `batch(number)` of an endless stream, and `in_order()`.

        Args:
            batch_size: of `batch`, over all processes.
            seed: of everything random; `batch` is a function of it and of `number` alone.
            device: where the batches end up.
            augmented: whether `batch` augments; `in_order` never does.
            channels_last: memory format, where the inputs are images.
            share: which rows of every batch, and which examples in order, are this process's. The processes' rows
                together are the batch of one process, bit for bit; in order, all have as many batches.
        """

    @property
    def transform(self) -> Transform | None:
        """How examples that are measured are made of what people have; None where the data set does not say.

        It may need to have been read: `splits` comes first.
        """
        return None

    def adopt(self, transform: Transform) -> None:
        """From now on make examples as `transform` does, which is another data set's, and so of a trained model.

        Raises:
            ValueError: that cannot be.
        """
        if self.transform != transform:
            raise ValueError(f"{type(self).__name__} does not know how to make examples for a model of other data")

    def spoiled(self, examples: Any, spoil: Callable[[Tensor], Tensor]) -> Any:
        """The same examples with every image, uint8 (C, H, W) as it is measured, spoiled: see `Corruption`.

        Raises:
            ValueError: they are no images.
        """
        raise ValueError("--corruptions: are made of images, and these data have none")

    def close(self) -> None:  # noqa: B027 - most have nothing to do
        """End what the loaders have started. They are of no use afterwards."""


class SplitData(Data):
    """A data set with a training and a test set, part of whose training set is for validation.

    Args:
        val_fraction: share of the training set that becomes the validation set, in [0, 1).
        split_seed: which examples those are; independent of the seed of a run.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(self, *, val_fraction: float = 0.1, split_seed: int = 0):
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction={val_fraction}: must lie in [0, 1)")
        check_seed("split_seed", split_seed)
        self.val_fraction, self.split_seed = val_fraction, split_seed

    @abstractmethod
    def read(self) -> tuple[Any, Any]:
        """Training and test examples as they are published: `Examples`, or a dataclass with `targets` of its own."""

    def splits(self) -> Splits:
        train, test = self.read()
        kept, held = self.divide(train)
        return Splits(train[kept], train[held], test)

    def divide(self, train: Any) -> tuple[Tensor, Tensor]:
        """Indices of the training and of the validation part."""
        return at_random(len(train), self.val_fraction, seed=self.split_seed)


def at_random(count: int, fraction: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the rest and of the part that holds `fraction` of `count` examples, each in ascending order."""
    held = np.zeros(count, dtype=bool)
    held[np.random.default_rng(seed).permutation(count)[: round(fraction * count)]] = True
    return torch.from_numpy(np.flatnonzero(~held)), torch.from_numpy(np.flatnonzero(held))


def stratified(labels: Tensor, fraction: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the rest and of the part that holds `fraction` of every class, each in ascending order."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels.numpy()):
        members = rng.permutation(np.flatnonzero(labels.numpy() == label))
        held[members[: round(fraction * len(members))]] = True
    return torch.from_numpy(np.flatnonzero(~held)), torch.from_numpy(np.flatnonzero(held))


def check_seed(name: str, seed: int) -> None:
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"{name}={seed}: must be a whole number of at least 0")
