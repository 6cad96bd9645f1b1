"""mixup and CutMix of whole batches: every image is blended with the one before it, and so are their classes.

Zhang et al. 2018 (arXiv 1710.09412) and Yun et al. 2019 (arXiv 1905.04899), as `torchvision.transforms.v2` has them:
λ ~ Beta(α, α), and with x' the batch one image further

    mixup     λ x + (1 − λ) x'
    CutMix    x, and x' in a box of the share 1 − λ of the image, which may stick out: λ is what is left of x
"""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Mixing:
    """Which of the two a batch gets; of both, either with the same probability. 0 is for none.

    Args:
        mixup: α of mixup.
        cutmix: α of CutMix.
        classes: of the labels.

    Raises:
        ValueError: an α out of its range.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    classes: int = 0

    def __post_init__(self) -> None:
        for name, alpha in {"mixup": self.mixup, "cutmix": self.cutmix}.items():
            if not 0 <= alpha < math.inf:
                raise ValueError(f"{name}={alpha}: must be at least 0")

    @property
    def mixes(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def positions(self, own: slice, count: int) -> np.ndarray:
        """Which of the `count` images of a batch are needed for those at `own`: they, and the one before them."""
        before = [(own.start - 1) % count] if self.mixes else []
        return np.array([*before, *range(own.start, own.stop)])

    def __call__(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """The images (B + 1, C, H, W) and classes (B + 1,) at `positions` mixed: (B, C, H, W), and shares (B, classes).

        Without mixing both are as they were. `seed` says how, for all of a batch.
        """
        if not self.mixes:
            return images, labels
        rng = np.random.default_rng(seed)
        cuts = rng.random() < 0.5 if self.mixup and self.cutmix else self.cutmix > 0
        alpha = self.cutmix if cuts else self.mixup
        left = float(rng.beta(alpha, alpha))
        if cuts:
            images, left = cut(images, *_box(left, images.shape[-2], images.shape[-1], rng))
        else:
            images = blended(images, left)
        return images, blended(functional.one_hot(labels, self.classes).float(), left)


def blended(rows: Tensor, left: float) -> Tensor:
    """Every row but the first, of which `left` remains, and the one before it."""
    return rows[:-1].mul(1 - left).add_(rows[1:].mul(left))


def cut(images: Tensor, top: int, bottom: int, start: int, stop: int) -> tuple[Tensor, float]:
    """Every image but the first with a box of the one before it, and the share that is left of it."""
    result = images[1:].clone()
    result[..., top:bottom, start:stop] = images[:-1, ..., top:bottom, start:stop]
    height, width = images.shape[-2:]
    return result, 1 - (bottom - top) * (stop - start) / (height * width)


def _box(left: float, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Rows and columns of a box of the share 1 − `left` around any pixel, as far as it lies inside."""
    middle = int(rng.integers(height)), int(rng.integers(width))
    half = 0.5 * math.sqrt(1 - left)
    top, bottom = (middle[0] + side * int(half * height) for side in (-1, 1))
    start, stop = (middle[1] + side * int(half * width) for side in (-1, 1))
    return max(top, 0), min(bottom, height), max(start, 0), min(stop, width)


UNMIXED = Mixing()
