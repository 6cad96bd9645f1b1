"""Random crop, flip, a policy and cutout of a whole batch at once, on the device that holds the images.

Where several processes share a batch, each draws for all of it and takes its rows: so the batch is the same as on one.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from lets_runner.data.policies import UNCHANGED, Policy

EVERY = slice(None)
Rows = slice | Tensor


@dataclass(frozen=True)
class Augmentation:
    """Which of them to apply, in this order. `crop` and `cutout` are in pixels, 0 for none."""

    crop: int = 0
    flip: bool = False
    cutout: int = 0
    policy: Policy = UNCHANGED

    def __post_init__(self) -> None:
        for name, pixels in {"crop": self.crop, "cutout": self.cutout}.items():
            if not isinstance(pixels, int) or pixels < 0:
                raise ValueError(f"{name}={pixels}: must be a whole number of pixels of at least 0")

    def padded(self, images: Tensor) -> Tensor:
        """The images with the black margin that `pick` crops from; to be made once."""
        return functional.pad(images, (self.crop,) * 4) if self.crop else images

    def pick(self, padded: Tensor, index: Tensor, generator: Generator, *, rows: Rows = EVERY) -> Tensor:
        """The images at `rows` of `index`, shifted and mirrored: (B, C, H, W) of the same type."""
        if not (self.crop or self.flip):
            return padded[index[rows]]
        count, device = len(index), index.device
        height, width = padded.shape[2] - 2 * self.crop, padded.shape[3] - 2 * self.crop
        top, left = torch.randint(0, 2 * self.crop + 1, (2, count, 1), generator=generator, device=device)[:, rows, 0]
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, tops, lefts, H, W), a view
        images = windows[index[rows], :, top, left]
        if self.flip:
            mirrored = torch.rand((count, 1), generator=generator, device=device)[rows] < 0.5
            images = torch.where(mirrored[:, :, None, None], images.flip(3), images)
        return images

    def blank(self, images: Tensor, generator: Generator, *, count: int | None = None, rows: Rows = EVERY) -> Tensor:
        """Cut a square out of every normalised image; its centre lies anywhere, so the square may stick out.

        The images are `rows` of a batch of `count`, or a whole batch.
        """
        if not self.cutout:
            return images
        count, sizes = count or len(images), images.shape[2:]
        groups = [(sizes[0], 2)] if sizes[0] == sizes[1] else [(size, 1) for size in sizes]
        inside: list[Tensor] = []
        for size, axes in groups:  # both axes at once where they are equal, which takes half the kernels
            centre = torch.randint(0, size, (axes, count, 1), generator=generator, device=images.device)[:, rows]
            distance = torch.arange(self.cutout // 2, size + self.cutout // 2, device=images.device) - centre
            inside += ((distance >= 0) & (distance < self.cutout)).unbind()
        return images.masked_fill(inside[0][:, None, :, None] & inside[1][:, None, None, :], 0.0)
