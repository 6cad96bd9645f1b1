"""Image data sets small enough to live on the training device."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lets_runner.data.augment import Augmentation
from lets_runner.data.labelled import LabelledData
from lets_runner.data.loader import PLAIN, DeviceLoader
from lets_runner.data.mixing import UNMIXED, Mixing
from lets_runner.data.policies import Policy
from lets_runner.data.splits import Examples
from lets_runner.data.stream import WHOLE, Share
from lets_runner.data.transforms import ImageTransform, Transform, check_images


class ImageData(LabelledData):
    """A labelled image data set on the device: a subclass says what it looks like, and reads `Examples`.

    Args:
        crop: shift images by up to this many pixels, padding with black (random crop).
        flip: mirror every second image.
        cutout: side in pixels of the square that is blanked out (DeVries & Taylor 2017, arXiv 1708.04552).
        policy: "randaugment" or "trivialaugment", torchvision's, after crop and flip; see `Policy`.
        policy_ops: operations of RandAugment, one after the other.
        policy_magnitude: of RandAugment, of 0 to 30.
        mixup: α of `Mixing`, 0 for none.
        cutmix: the same; with both, every batch gets one of them.
        settings: see `LabelledData`.

    Raises:
        ValueError: a setting out of its range.
    """

    mean: tuple[float, ...]  # of every channel, in units of the brightest pixel
    std: tuple[float, ...]
    class_names: tuple[str, ...] | None = None  # in the order of the classes

    def __init__(
        self,
        *,
        crop: int = 0,
        flip: bool = False,
        cutout: int = 0,
        policy: str | None = None,
        policy_ops: int = 2,
        policy_magnitude: int = 9,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        **settings: Any,
    ):
        super().__init__(**settings)
        policies = Policy(policy, policy_ops, policy_magnitude)
        self.augmentation = Augmentation(crop=crop, flip=flip, cutout=cutout, policy=policies)
        self.mixing = Mixing(mixup, cutmix, self.classes)
        self.mixes = self.mixing.mixes

    @property
    def transform(self) -> ImageTransform:
        form: Any = {"shape": self.shape, "mean": self.mean, "std": self.std}
        return ImageTransform(outputs=self.outputs, class_names=self.class_names, **form)

    def adopt(self, transform: Transform) -> None:
        check_images(transform, self.shape, self.classes)
        assert isinstance(transform, ImageTransform)
        self.mean, self.std = transform.mean, transform.std

    def spoiled(self, examples: Examples, spoil: Callable[[Tensor], Tensor]) -> Examples:
        return Examples(torch.stack([spoil(image) for image in examples.images]), examples.targets)

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
    ) -> DeviceLoader:
        return DeviceLoader(
            examples,
            batch_size=batch_size,
            mean=self.mean,
            std=self.std,
            seed=seed,
            device=device,
            augmentation=self.augmentation if augmented else PLAIN,
            mixing=self.mixing if augmented else UNMIXED,
            channels_last=channels_last,
            share=share,
        )
