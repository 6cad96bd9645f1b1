"""What every data set hands over: training, validation and test examples, and loaders that make batches of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lets_runner.data.noise import confused_labels, noisy_labels
from lets_runner.data.stream import WHOLE, Share


@dataclass(frozen=True)
class Examples:
    """Images as uint8 of shape (N, C, H, W), and their classes as int64 of shape (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> "Examples":
        return Examples(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set, in whatever form it keeps them. Only `test` is free of label noise, always."""

    train: Any
    val: Any
    test: Any


class Data(ABC):
    """A data set as the runner sees it: what a model must fit, the parts, and how batches are made of a part."""

    classes: int
    shape: tuple[int, int, int]  # channels, height, width
    val_fraction: float  # of the training set that is held out; 0 for no validation set

    @abstractmethod
    def splits(self) -> Splits:
        """The same three parts every time. Whatever can be wrong with the files at large is found here.

        Raises:
            OSError, ValueError: no data, or not what they should be; one line that says how to mend it.
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
            channels_last: memory format of the images.
            share: which rows of every batch, and which examples in order, are this process's. The processes' rows
                together are the batch of one process, bit for bit; in order, all have as many batches.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to do
        """End what the loaders have started. They are of no use afterwards."""


class LabelledData(Data):
    """A data set with a training and a test set, and one class to an example: a subclass says how to read them.

    Args:
        val_fraction: share of every class of the training set that becomes the validation set, in [0, 1).
        split_seed: which examples those are; independent of the seed of a run.
        label_noise: share of wrong training labels, in [0, 1]; of every class that has any, if `noise` is asymmetric.
        val_label_noise: the same for validation labels; None for as much as in training. A validation set cleaner than
            the training set makes its loss incomparable, and a learned radius goes the wrong way.
        noise: "symmetric" replaces a label by any other class, all alike likely; "asymmetric" by the one that it is
            easily taken for (Patrini et al. 2017, arXiv 1609.03683), which the data set must know.
        noise_seed: which labels those are.

    Raises:
        ValueError: a setting out of its range.
    """

    confusions: ClassVar[dict[int, int] | None] = None  # classes, and what each is easily taken for

    def __init__(
        self,
        *,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        label_noise: float = 0.0,
        val_label_noise: float | None = None,
        noise: str = "symmetric",
        noise_seed: int = 0,
    ):
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction={val_fraction}: must lie in [0, 1)")
        for name, share in {"label_noise": label_noise, "val_label_noise": val_label_noise}.items():
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{name}={share}: must lie in [0, 1]")
        if noise not in ("symmetric", "asymmetric"):
            raise ValueError(f"noise={noise}: must be symmetric or asymmetric")
        if noise == "asymmetric" and self.confusions is None:
            raise ValueError(
                f"noise=asymmetric: {type(self).__name__} does not say which classes are taken for which; "
                "take noise=symmetric"
            )
        self.val_fraction, self.split_seed = val_fraction, split_seed
        self.label_noise, self.noise, self.noise_seed = label_noise, noise, noise_seed
        self.val_label_noise = label_noise if val_label_noise is None else val_label_noise

    @abstractmethod
    def read(self) -> tuple[Any, Any]:
        """Training and test examples as they are published: dataclasses with `labels`, int64 of shape (N,)."""

    def splits(self) -> Splits:
        """Read, split and spoil; the same three parts every time."""
        train, test = self.read()
        kept, held = stratified(train.labels, self.val_fraction, seed=self.split_seed)
        return Splits(
            train=self._spoiled(train[kept], self.label_noise, part=0),
            val=self._spoiled(train[held], self.val_label_noise, part=1),
            test=test,
        )

    def _spoiled(self, examples: Any, share: float, *, part: int) -> Any:
        seed = (self.noise_seed, part)
        if self.noise == "symmetric":
            return replace(examples, labels=noisy_labels(examples.labels, share, classes=self.classes, seed=seed))
        assert self.confusions is not None
        return replace(examples, labels=confused_labels(examples.labels, share, self.confusions, seed=seed))


def stratified(labels: Tensor, fraction: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the rest and of the part that holds `fraction` of every class, each in ascending order."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels.numpy()):
        members = rng.permutation(np.flatnonzero(labels.numpy() == label))
        held[members[: round(fraction * len(members))]] = True
    return torch.from_numpy(np.flatnonzero(~held)), torch.from_numpy(np.flatnonzero(held))
