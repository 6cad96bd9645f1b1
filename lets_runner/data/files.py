"""Images that stay in their files: read, cropped and flipped by worker processes ahead of the training, batch by batch.

Everything random about an example is a function of the seed, the number of the batch and the place in it, so that
batches do not depend on how many workers make them, nor on how many processes share them.
"""

import atexit
import multiprocessing
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing.connection import wait
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from lets_runner.data.loader import Batch
from lets_runner.data.mixing import UNMIXED, Mixing
from lets_runner.data.normalisation import Normalisation
from lets_runner.data.stream import WHOLE, Share, Stream

Transform = Callable[[Tensor], Tensor]
Job = tuple[bool, int]  # an augmented batch or a piece in order, and its number
AHEAD = 2  # batches that a worker has ready or in the making
PIECE = 128  # examples at a time in order; several are held in memory at once
GRACE = 30  # seconds that a worker goes on after SIGTERM


class BrokenImage(OSError):  # noqa: N818 - what it is called is what the user reads
    """An image file that cannot be read."""


@dataclass(frozen=True)
class Files:
    """Image files in `folder`, their names within as an array of bytes, and their classes as int64 of shape (N,).

    `after` is what is done to an image that is measured, once it has the size of all.
    """

    folder: str
    names: np.ndarray  # a million Python strings would cost every worker a copy
    targets: Tensor
    after: tuple[Transform, ...] = ()

    @property
    def labels(self) -> Tensor:
        return self.targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Tensor) -> "Files":
        return replace(self, names=self.names[index.numpy()], targets=self.targets[index])

    def path(self, index: int) -> str:
        return f"{self.folder}/{os.fsdecode(self.names[index])}"


def read_image(path: str) -> Tensor:
    """The image as uint8 of shape (3, height, width), RGB whatever the file's colours and format.

    Raises:
        BrokenImage: the file cannot be read as an image; the text says why.
    """
    try:
        with Image.open(path) as image:  # Pillow: torchvision's own decoders are deprecated
            pixels = np.array(image.convert("RGB"))
    except Exception as error:  # whatever a damaged file makes a decoder raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BrokenImage(f"{path} cannot be read as an image ({reason or type(error).__name__})") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


class Reader:
    """Makes batches, in a worker or on the spot: uint8 images, labels, and what was wrong with which files."""

    def __init__(
        self, files: Files, stream: Stream, *, augmented: Transform, plain: Transform, skip: bool, mixing: Mixing
    ):
        self.files, self.stream, self.skip = files, stream, skip
        self.positions = mixing.positions(stream.rows, stream.batch_size).tolist()
        self.augmented, self.plain = augmented, plain
        self.pieces = stream.pieces(PIECE)

    def __getitem__(self, job: Job) -> tuple[Tensor, Tensor, list[str]]:
        is_batch, number = job
        broken: list[str] = []
        with torch.random.fork_rng(devices=[]):
            made = list(self._batch(number, broken) if is_batch else self._piece(number, broken))
        if not made:
            return torch.empty(0), torch.empty(0), broken
        images, indices = zip(*made, strict=True)
        return torch.stack(images), self.files.targets[list(indices)], broken

    def _batch(self, number: int, broken: list[str]) -> Iterator[tuple[Tensor, int]]:
        epoch, place = self.stream.place(number)
        index = self.stream.order(epoch)[place]
        for position in self.positions:
            image, taken = self._readable(int(index[position]), broken)
            if image is None:
                return
            torch.default_generator.manual_seed(self.stream.draw(1, number, position))  # leaves the accelerator's alone
            yield self.augmented(image), taken

    def _piece(self, number: int, broken: list[str]) -> Iterator[tuple[Tensor, int]]:
        piece = self.pieces[number]
        for index in range(piece.start, piece.stop):
            image = self._read(index, broken)
            if image is not None:
                yield self.plain(image), index
            elif not self.skip:
                return

    def _readable(self, index: int, broken: list[str]) -> tuple[Tensor | None, int]:
        """The image at `index`, or the next that can be read: of the same class, where files lie by classes."""
        for candidate in range(index, index + (len(self.files) if self.skip else 1)):
            taken = candidate % len(self.files)
            if (image := self._read(taken, broken)) is not None:
                return image, taken
        return None, index

    def _read(self, index: int, broken: list[str]) -> Tensor | None:
        try:
            return read_image(self.files.path(index))
        except BrokenImage as error:
            broken.append(str(error))  # reported by the main process: an exception in a worker comes with a traceback
            return None


class FileLoader:
    """Batches of float32 images (B, 3, H, W), normalised, and their int64 labels (B,), or mixed ones (B, classes).

    Nothing is started before the first batch is asked for. Asking for consecutive numbers is quick; any other starts
    reading ahead again from there.

    Args:
        files: what to draw from.
        batch_size: of `batch`, over all processes; each pass over the files leaves out a last incomplete batch.
        augmented, plain: from an image (3, height, width) of uint8 to one of the size of all, in `batch` and in
            `in_order`. They can be pickled, and draw from torch's own generator if at all.
        mean, std: of every channel, in units of 255.
        seed: of shuffling and augmentation. Loaders that are to differ need different seeds.
        device: where batches end up; they travel as bytes and are normalised there.
        workers: processes that read; 0 to read in this one.
        skip: warn of a file that cannot be read, and go on: `batch` takes the next one, `in_order` leaves it out.
        channels_last: memory format of the batches, for convolutions.
        mixing: what `batch` does to images and labels together.
        share: which rows of every batch, and of the files in order, are this process's.

    Raises:
        ValueError: no batch of this size can be drawn, or shared.
        BrokenImage: from `batch` and `in_order`, a file cannot be read, or with `skip`, none of those asked for.
    """

    def __init__(
        self,
        files: Files,
        *,
        batch_size: int,
        augmented: Transform,
        plain: Transform,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        seed: tuple[int, ...],
        device: torch.device,
        workers: int,
        skip: bool = False,
        channels_last: bool = False,
        mixing: Mixing = UNMIXED,
        share: Share = WHOLE,
    ):
        self.stream = Stream(len(files), batch_size=batch_size, seed=seed, share=share)
        self.reader = Reader(files, self.stream, augmented=augmented, plain=plain, skip=skip, mixing=mixing)
        self.mixing = mixing
        self.device, self.workers, self.skip = device, workers, skip
        self._normalised = Normalisation(mean, std, device=device, channels_last=channels_last)
        self._jobs = Jobs(len(self.reader.pieces))
        self._loader: DataLoader | None = None
        self._batches: Iterator[Any] = iter(())
        self._next: Job | None = None  # what `_batches` yields next
        self._known: set[str] = set()  # broken files that were reported

    def __len__(self) -> int:
        """Batches in one pass over the files."""
        return len(self.stream)

    def batch(self, number: int) -> Batch:
        """The batch at position `number` of an endless stream that reshuffles with every pass over the files."""
        return self.mixing(*self._fetch((True, number)), self.stream.draw(2, number))

    def in_order(self) -> Iterator[Batch]:
        """Every file once, not augmented, some at a time."""
        for number in range(len(self.reader.pieces)):
            yield self._fetch((False, number))

    def close(self) -> None:
        """End the workers; the next batch would start new ones."""
        self._batches, self._loader, self._next = iter(()), None, None  # the last reference to them ends them

    def _fetch(self, job: Job) -> Batch:
        if job != self._next:
            self._jobs.first = job
            if self._loader is None:
                self._loader = self._start()
            self._batches = iter(self._loader)
        self._next = None
        images, labels, broken = next(self._batches)
        self._next = job[0], job[1] + 1
        self._tell(broken)
        if not len(labels):
            raise BrokenImage(f"{broken[-1]}, and so it is with all others of this batch: see data.root")
        images = images.to(self.device, non_blocking=True)
        return self._normalised(images), labels.to(self.device, non_blocking=True)

    def _tell(self, broken: list[str]) -> None:
        for text in broken:
            if not self.skip:
                raise BrokenImage(f"{text}: put the whole file there, or leave such files out with data.broken=skip")
            if text not in self._known:
                self._known.add(text)
                warnings.warn(f"{text} and is left out", stacklevel=4)

    def _start(self) -> DataLoader:
        atexit.register(_close, weakref.ref(self))  # before Python's own way of ending processes, which waits for them
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # more workers than cores: as somebody wished
            return DataLoader(
                self.reader,  # type: ignore[arg-type]
                sampler=self._jobs,
                batch_size=None,  # a job is a batch already
                pin_memory=self.device.type == "cuda",
                generator=torch.Generator(),  # else every start would draw from the model's random numbers
                **(_worker_settings(self.workers) if self.workers else {}),
            )


def _close(loader: "weakref.ref[FileLoader]") -> None:
    if (alive := loader()) is not None:
        alive.close()


class Jobs:
    """The workers' jobs, in order, from `first` on: the batches for ever, the pieces once."""

    def __init__(self, pieces: int):
        self.pieces = pieces
        self.first: Job = (True, 0)

    def __iter__(self) -> Iterator[Job]:
        is_batch, number = self.first
        return ((is_batch, n) for n in (count(number) if is_batch else range(number, self.pieces)))


def _worker_settings(workers: int) -> dict[str, Any]:
    # Not fork: by now the process may hold a CUDA context and has threads, whose locks a child would inherit as they
    # stand. Not spawn: every worker would import torch for itself. The fork server imports it once, and has no threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "torchvision.transforms.v2", __name__])
    return {
        "num_workers": workers,
        "multiprocessing_context": context,
        "persistent_workers": True,
        "prefetch_factor": AHEAD,
        "worker_init_fn": _init_worker,
    }


def _init_worker(number: int) -> None:
    """A worker leaves signals to the main process, and ends when that does."""
    warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A signal to all processes of a job: the main process may need a last batch for the step that it will save.
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
