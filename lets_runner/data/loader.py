"""A part of a data set that lives on the training device, and batches of it, each a function of (seed, number).

Images live there as uint8 and are shuffled, cropped, flipped and normalised there, a batch at a time.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lets_runner.data.augment import Augmentation
from lets_runner.data.mixing import UNMIXED, Mixing
from lets_runner.data.normalisation import Normalisation
from lets_runner.data.splits import Examples
from lets_runner.data.stream import WHOLE, Share, Stream

Batch = tuple[Any, Tensor]
PLAIN = Augmentation()


class TensorLoader:
    """Batches (inputs, targets) of the examples as they are.

    Args:
        examples: what to draw from: `Examples`, or what has `targets` and `to` like them.
        batch_size: of `batch`, over all processes; each pass over the examples leaves out a last incomplete batch.
        seed: of shuffling and augmentation. Loaders that are to differ need different seeds.
        device: where everything lives, whatever the share.
        share: which rows of every batch, and of the examples in order, are this process's.

    Raises:
        ValueError: no batch of this size can be drawn, or shared.
    """

    def __init__(
        self,
        examples: Any,
        *,
        batch_size: int,
        seed: tuple[int, ...],
        device: torch.device,
        share: Share = WHOLE,
    ):
        self.stream = Stream(len(examples), batch_size=batch_size, seed=seed, share=share)
        self.examples: Any = examples.to(device)
        self.device = device
        self._order: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        """Batches in one pass over the examples."""
        return len(self.stream)

    def batch(self, number: int) -> Batch:
        """The batch at position `number` of an endless stream that reshuffles with every pass over the examples."""
        epoch, place = self.stream.place(number)
        index, rows = self._shuffled(epoch)[place], self.stream.rows
        return self._drawn(index, rows, number), self.examples.targets[index[rows]]

    def in_order(self, batch_size: int = 500) -> Iterator[Batch]:
        """Every example once, as it is, in batches of about `batch_size`."""
        for piece in self.stream.pieces(batch_size):
            yield self._plain(piece), self.examples.targets[piece]

    def _drawn(self, index: Tensor, rows: slice, number: int) -> Any:
        """The inputs of batch `number`: of `index`, which is the whole batch, those at `rows`."""
        return self.examples.inputs[index[rows]]

    def _plain(self, piece: slice) -> Any:
        """Inputs as they are measured."""
        return self.examples.inputs[piece]

    def _shuffled(self, epoch: int) -> Tensor:
        # On the device once a pass: a copy in every step would make the host wait.
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, torch.from_numpy(self.stream.order(epoch)).to(self.device)
        return self._order[1]


class DeviceLoader(TensorLoader):
    """Batches of float32 images (B, C, H, W), normalised, and their int64 labels (B,), or mixed ones (B, classes).

    Args:
        examples: uint8 images of shape (N, C, H, W), and their classes.
        mean, std: of every channel, in units of 255.
        augmentation: what `batch` does to the images; `in_order` never augments.
        mixing: what it does to images and labels together; then the labels are shares of classes, float32.
        channels_last: memory format of the batches, for convolutions.
        settings: see `TensorLoader`.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        augmentation: Augmentation = PLAIN,
        mixing: Mixing = UNMIXED,
        channels_last: bool = False,
        **settings: Any,
    ):
        super().__init__(examples, **settings)
        self.augmentation, self.mixing = augmentation, mixing
        self._positions = mixing.positions(self.stream.rows, self.stream.batch_size)  # of a batch, that are drawn
        self._rows = torch.from_numpy(self._positions).to(self.device) if mixing.mixes else self.stream.rows
        self._normalised = Normalisation(mean, std, device=self.device, channels_last=channels_last)
        self._padded = augmentation.padded(self.examples.inputs)

    def batch(self, number: int) -> Batch:
        epoch, place = self.stream.place(number)
        index = self._shuffled(epoch)[place]
        images, labels = self._drawn(index, self.stream.rows, number), self.examples.targets[index[self._rows]]
        return self.mixing(images, labels, self.stream.draw(2, number))

    def _drawn(self, index: Tensor, rows: slice, number: int) -> Tensor:
        """The images of batch `number` at `rows` of `index`, and with them what they are mixed with."""
        generator = torch.Generator(self.device).manual_seed(self.stream.draw(1, number))
        count, augmentation = len(index), self.augmentation
        images = augmentation.pick(self._padded, index, generator, rows=self._rows)
        images = augmentation.policy(images, self.stream.draw(3, number), count=count, rows=self._positions)
        return augmentation.blank(self._normalised(images), generator, count=count, rows=self._rows)

    def _plain(self, piece: slice) -> Tensor:
        return self._normalised(self.examples.inputs[piece])
