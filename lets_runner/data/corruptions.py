"""Test images that were spoiled: the published files of CIFAR-10-C and CIFAR-100-C, or made on the spot.

Hendrycks & Dietterich, *Benchmarking Neural Network Robustness to Common Corruptions and Perturbations*, ICLR 2019,
arXiv 1903.12261. On the spot they are those of the package imagecorruptions-imaug, with the strengths of ImageNet-C.
"""

import inspect
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lets_runner.data.regular import check_regular
from lets_runner.data.splits import Examples
from lets_runner.extra import missing

SEVERITIES = 5
SMALLEST = 32  # pixels of a side that the package takes
LABELS = "labels.npy"


@dataclass(frozen=True)
class Corruption:
    """One corruption of uint8 images (C, H, W), C 1 or 3. What it draws depends on the image alone, and on `seed`.

    Images below 32 pixels are enlarged by a whole number, corrupted, and made small again by means over blocks: noise
    of single pixels is weaker by that number.

    Args:
        name: as the package calls it, such as gaussian_noise.
        severity: 1 to 5.
    """

    name: str
    severity: int
    seed: int = 0

    def __call__(self, image: Tensor) -> Tensor:
        channels, height, width = image.shape
        times = -(-SMALLEST // min(height, width))
        large = image.permute(1, 2, 0).numpy().repeat(times, 0).repeat(times, 1)
        spoiled = self._spoiled(np.ascontiguousarray(large if channels == 3 else large[..., 0]))
        blocks = spoiled.reshape(height, times, width, times, 3).astype(np.float64).mean((1, 3)).round()
        found = torch.from_numpy(blocks.astype(np.uint8)).permute(2, 0, 1)
        return found.contiguous() if channels == 3 else found[1:2].contiguous()

    def _spoiled(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3)."""
        package = library()
        seed = zlib.crc32(f"{self.name} {self.severity} {self.seed}".encode(), zlib.crc32(image.tobytes()))
        takes = inspect.signature(package.corruption_dict[self.name]).parameters
        own = {"seed": seed} if "seed" in takes else {}  # those draw from a generator of their own otherwise
        before = np.random.get_state()
        np.random.seed(seed)
        try:
            return package.corrupt(image, corruption_name=self.name, severity=self.severity, **own)
        finally:
            np.random.set_state(before)


def library() -> Any:
    """The package; raises ValueError where it is missing."""
    try:
        import imagecorruptions
    except ModuleNotFoundError as error:
        raise missing("imagecorruptions-imaug", "corruptions") from error
    return imagecorruptions


def names(wanted: list[str]) -> list[str]:
    """The corruptions that `wanted` names; "all" are the fifteen of the benchmark.

    Raises:
        ValueError: there is none of that name.
    """
    known = library().get_corruption_names("all")
    found = [name for word in wanted for name in (library().get_corruption_names() if word == "all" else [word])]
    for name in found:
        if name not in known:
            raise ValueError(f"--corruptions {name}: must be all, or of {', '.join(known)}")
    return list(dict.fromkeys(found))


def read_corrupted(folder: Path, *, classes: int, shape: Sequence[int]) -> Iterator[tuple[str, int, Examples]]:
    """Every corruption and severity of a folder laid out as CIFAR-10-C is published, by name.

    `<corruption>.npy` is uint8 (5 N, H, W, C), severity after severity, and `labels.npy` the classes of all of it.

    Args:
        classes, shape: that a model knows, and takes: (C, H, W).

    Raises:
        OSError, ValueError: it is not; one line that names the file.
    """
    labels = _read(folder / LABELS)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels) or len(labels) % SEVERITIES:
        raise ValueError(f"{folder / LABELS}: is {labels.dtype} {labels.shape}; must be classes, for 5 severities")
    if not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"{folder / LABELS}: has class {labels.max()}, and the model knows {classes}")
    paths = sorted(path for path in folder.glob("*.npy") if path.name != LABELS)
    if not paths:
        raise FileNotFoundError(f"{folder}: holds no <corruption>.npy beside {LABELS}")
    count = len(labels) // SEVERITIES
    for path in paths:
        images = _read(path)
        wanted = (len(labels), *shape[1:], shape[0])
        if images.dtype != np.uint8 or images.shape != wanted:
            raise ValueError(f"{path}: is {images.dtype} {images.shape}; must be uint8 {wanted} for this model")
        for severity in range(1, SEVERITIES + 1):
            rows = slice((severity - 1) * count, severity * count)
            inputs = torch.from_numpy(np.array(images[rows])).permute(0, 3, 1, 2)
            yield path.stem, severity, Examples(inputs, torch.from_numpy(labels[rows].astype(np.int64)))


def _read(path: Path) -> np.ndarray:
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file; the folder must be as CIFAR-10-C is published")
    check_regular(path)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # whatever a damaged file makes numpy raise
        raise ValueError(f"{path}: cannot be read as an array of numbers ({error})") from error
