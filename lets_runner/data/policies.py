"""RandAugment and TrivialAugment, torchvision's: for images one by one, and for batches that live on the device.

Cubuk et al. 2020 (arXiv 1909.13719); Müller & Hutter 2021 (arXiv 2103.10158), its wide space. Of a batch, the images
that get the same operation go through it together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

BINS = 31  # magnitudes that there are


@dataclass(frozen=True)
class Policy:
    """Which operations an image gets.

    Args:
        name: "randaugment" or "trivialaugment"; None for none.
        ops: of RandAugment, one after the other; TrivialAugment has one.
        magnitude: of RandAugment, of 0 to 30; TrivialAugment draws it.

    Raises:
        ValueError: there is no such policy, or a setting out of its range.
    """

    name: str | None = None
    ops: int = 2
    magnitude: int = 9

    def __post_init__(self) -> None:
        if self.name not in (None, "randaugment", "trivialaugment"):
            raise ValueError(f"policy={self.name}: must be randaugment or trivialaugment, or null")
        if self.ops < 1:
            raise ValueError(f"policy_ops={self.ops}: must be at least 1")
        if not 0 <= self.magnitude < BINS:
            raise ValueError(f"policy_magnitude={self.magnitude}: must lie between 0 and {BINS - 1}")

    @cached_property
    def transform(self) -> Any:
        """torchvision's own, of an image (C, H, W) of uint8; it draws from torch's generator."""
        from torchvision.transforms import v2

        if self.name == "randaugment":
            return v2.RandAugment(self.ops, self.magnitude, BINS)
        return v2.TrivialAugmentWide(BINS)

    def each(self) -> list[Callable[[Tensor], Tensor]]:
        """What images one by one go through."""
        return [] if self.name is None else [self.transform]

    def __call__(self, images: Tensor, seed: int, *, count: int, rows: slice | np.ndarray) -> Tensor:
        """The images (B, C, H, W) of uint8, each with operations of its own.

        They are `rows` of a batch of `count`; `seed` says what each of the batch gets.
        """
        rng = np.random.default_rng(seed)
        for _ in range(0 if self.name is None else self.ops if self.name == "randaugment" else 1):
            images = self._round(images, self._drawn(rng, count)[rows])
        return images

    def _drawn(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """For each image the numbers of an operation, a magnitude and a sign: (count, 3)."""
        space = list(self.transform._AUGMENTATION_SPACE.values())
        operation, sign = rng.integers(len(space), size=count), rng.integers(2, size=count)
        drawn = rng.integers(BINS, size=count)
        size = np.full(count, self.magnitude) if self.name == "randaugment" else drawn
        has_size = np.array([magnitudes(BINS, 1, 1) is not None for magnitudes, _ in space])
        signed = np.array([signed for _, signed in space])
        return np.stack([operation, size * has_size[operation], sign * signed[operation]], 1)

    def _round(self, images: Tensor, drawn: np.ndarray) -> Tensor:
        """One operation for each image, those of the same together."""
        order = np.lexsort(drawn.T)
        kinds, starts = np.unique(drawn[order], axis=0, return_index=True)
        starts = np.sort(starts)
        place = _on_device(torch.from_numpy(order), images.device)
        pieces = images[place].tensor_split(starts[1:].tolist())
        kinds = drawn[order][starts]
        done = torch.cat([self._apply(piece, *kind) for piece, kind in zip(pieces, kinds.tolist(), strict=True)])
        return torch.empty_like(done).index_copy_(0, place, done)

    def _apply(self, images: Tensor, operation: int, size: int, sign: int) -> Tensor:
        transform, (height, width) = self.transform, images.shape[-2:]
        name, (magnitudes, _) = list(transform._AUGMENTATION_SPACE.items())[operation]
        known = magnitudes(BINS, height, width)
        magnitude = 0.0 if known is None else float(known[size]) * (-1 if sign else 1)
        return transform._apply_image_or_video_transform(
            images, name, magnitude, interpolation=transform.interpolation, fill=transform._fill
        )


def _on_device(index: Tensor, device: torch.device) -> Tensor:
    """A copy that the host does not wait for."""
    return index.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else index


UNCHANGED = Policy()
