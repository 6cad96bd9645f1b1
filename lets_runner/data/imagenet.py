"""ImageNet, or any other images in folders by class: `train/<class>/*.JPEG` and `val/<class>/*.JPEG`.

Russakovsky et al., *ImageNet Large Scale Visual Recognition Challenge*, 2015, arXiv 1409.0575. Crops as is usual:
a random 8 to 100 % of the image and a flip for training, the middle 7/8 of the shorter side for measuring.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lets_runner.data.files import FileLoader, Files
from lets_runner.data.labelled import LabelledData
from lets_runner.data.mixing import UNMIXED, Mixing
from lets_runner.data.policies import Policy
from lets_runner.data.stream import WHOLE, Share
from lets_runner.data.transforms import ImageTransform, Transform, check_images

SUFFIXES = (".jpeg", ".jpg", ".png")
MOST_WORKERS = 8


class ImageNet(LabelledData):
    """Images read from files as they are needed. `val/` is the test set; validation is a part of `train/`.

    Args:
        root: the folder that holds `train` and `val`.
        classes: folders in `train`; a class's number is its place among them by name.
        size: of the images that the model sees, in pixels.
        workers: processes that read images for each part in use; 0 to read in the training process; "auto" for the
            cores that there are less one, at most 8.
        broken: "stop" at a file that cannot be read, or "skip" it with a warning: another takes its place in
            training, and it is not measured.
        policy: "randaugment" or "trivialaugment"; this and the next four as for `ImageData`.
        policy_ops: operations of RandAugment.
        policy_magnitude: of RandAugment.
        mixup: α of `Mixing`.
        cutmix: the same.
        settings: see `LabelledData`.

    Raises:
        FileNotFoundError: no images where they should be.
        ValueError: a setting out of its range, or folders that do not fit.
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __init__(
        self,
        root: str = "data/imagenet",
        *,
        classes: int = 1000,
        size: int = 224,
        workers: int | str = "auto",
        broken: str = "stop",
        policy: str | None = None,
        policy_ops: int = 2,
        policy_magnitude: int = 9,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        **settings: Any,
    ):
        super().__init__(**settings)
        for name, number in {"classes": classes, "size": size}.items():
            if not isinstance(number, int) or number < 1:
                raise ValueError(f"{name}={number}: must be a whole number of at least 1")
        if workers != "auto" and (not isinstance(workers, int) or workers < 0):
            raise ValueError(f"workers={workers}: must be auto, or a whole number of at least 0")
        if broken not in ("stop", "skip"):
            raise ValueError(f"broken={broken}: must be stop or skip")
        self.root = Path(root).expanduser()
        self.classes, self.shape, self.broken = classes, (3, size, size), broken
        self.workers = _auto_workers() if isinstance(workers, str) else workers
        self.class_names: tuple[str, ...] | None = None  # known once the folders have been read
        self.policy, self.mixing = Policy(policy, policy_ops, policy_magnitude), Mixing(mixup, cutmix, classes)
        self.mixes = self.mixing.mixes
        self._loaders: list[FileLoader] = []

    @property
    def transform(self) -> ImageTransform:
        form: Any = {"shape": self.shape, "mean": self.mean, "std": self.std, "resize": self._resize}
        return ImageTransform(outputs=self.outputs, class_names=self.class_names, **form)

    def adopt(self, transform: Transform) -> None:
        check_images(transform, self.shape, self.classes)
        assert isinstance(transform, ImageTransform)
        self.mean, self.std = transform.mean, transform.std

    def read(self) -> tuple[Files, Files]:
        names = self._folders("train")
        if len(names) != self.classes:
            raise ValueError(
                f"classes={self.classes}: there are {len(names)} folders in {self.root / 'train'}; "
                f"take data.classes={len(names)}"
            )
        if strangers := sorted(set(self._folders("val")) - set(names)):
            raise ValueError(
                f"{self.root / 'val'} has a class that {self.root / 'train'} does not: {strangers[0]} "
                f"({len(strangers)} in all); move it away"
            )
        self.class_names = tuple(names)
        return self._files("train", names), self._files("val", names)

    def spoiled(self, examples: Files, spoil: Callable[[Tensor], Tensor]) -> Files:
        return replace(examples, after=(*examples.after, spoil))

    def loader(
        self,
        examples: Files,
        *,
        batch_size: int,
        seed: tuple[int, ...],
        device: torch.device,
        augmented: bool,
        channels_last: bool = False,
        share: Share = WHOLE,
    ) -> FileLoader:
        from torchvision.transforms import v2

        size = self.shape[1]
        plain = v2.Compose([v2.Resize(self._resize), v2.CenterCrop(size), *examples.after])
        random = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()]
        loader = FileLoader(
            examples,
            batch_size=batch_size,
            augmented=v2.Compose([*random, *self.policy.each()]) if augmented else plain,
            plain=plain,
            mixing=self.mixing if augmented else UNMIXED,
            mean=self.mean,
            std=self.std,
            seed=seed,
            device=device,
            workers=self.workers,
            skip=self.broken == "skip",
            channels_last=channels_last,
            share=share,
        )
        self._loaders.append(loader)
        return loader

    @property
    def _resize(self) -> int:
        """The shorter side before the middle is cut out, in pixels."""
        return round(self.shape[1] * 256 / 224)

    def close(self) -> None:
        for loader in self._loaders:
            loader.close()

    def _folders(self, part: str) -> list[str]:
        """The classes of one part, by name."""
        folder = self.root / part
        names = sorted(e.name for e in os.scandir(folder) if e.is_dir()) if folder.is_dir() else []
        if names := [name for name in names if not name.startswith(".")]:
            return names
        raise FileNotFoundError(
            f"no {part}/<class>/*.JPEG in {self.root.absolute()}: put the images there, a folder a class, "
            "or point data.root to where they are"
        )

    def _files(self, part: str, names: list[str]) -> Files:
        files, labels = [], []
        for label, name in enumerate(names):
            folder = self.root / part / name
            if not folder.is_dir():  # not every class need be measured
                continue
            images = sorted(e.name for e in os.scandir(folder) if e.name.lower().endswith(SUFFIXES))
            if not images:
                raise FileNotFoundError(f"{folder} holds no *.JPEG: put its images there, or remove the folder")
            files += [os.fsencode(f"{part}/{name}/{image}") for image in images]
            labels += [label] * len(images)
        return Files(str(self.root.absolute()), np.array(files), torch.tensor(labels))


def _auto_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of torchrun on this machine, each with its workers
    return max(1, min(MOST_WORKERS, cores // processes - 1))
