"""From what a person has, an image or a row of a table, to what a trained model takes: as validation examples are made.

A transform is plain data (`plain`, `transform_of`), so that a run can write it down, and needs no data set.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lets_runner.data.normalisation import Normalisation

KINDS: dict[str, type["Transform"]] = {}  # as they are called in a file


@dataclass(frozen=True, kw_only=True)
class Transform(ABC):
    """What a model of a data set takes and gives.

    Args:
        outputs: numbers that the model gives for one example.
        class_names: of the classes, in the order of these numbers; None where there are no classes, or no names.
    """

    kind: ClassVar[str]
    outputs: int
    class_names: tuple[str, ...] | None = None

    def __init_subclass__(cls) -> None:
        if "kind" in vars(cls):
            KINDS[cls.kind] = cls

    @property
    @abstractmethod
    def input_shape(self) -> Any:
        """The shape that models are built from; see `Data.shape`."""

    @abstractmethod
    def __call__(self, examples: Any, *, device: torch.device | str = "cpu") -> Any:
        """A batch as the model takes it."""

    def restore(self, outputs: Tensor) -> Tensor:
        """The model's outputs in the units of the data set; scores of classes stay what they are."""
        return outputs

    def plain(self) -> dict[str, Any]:
        """All of it as JSON has it; `transform_of` undoes this."""
        return {"kind": self.kind, **{field.name: _json(getattr(self, field.name)) for field in fields(self)}}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        return cls(**{name: _tuples(value) for name, value in plain.items() if name not in ("kind", "model")})


def transform_of(plain: Mapping[str, Any]) -> Transform:
    """The transform that `plain` stands for.

    Raises:
        ValueError: it is none that `Transform.plain` has made.
    """
    try:
        return KINDS[plain["kind"]].of(plain)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no transform that a run has written ({type(error).__name__}: {error})") from error


@dataclass(frozen=True, kw_only=True)
class ImageTransform(Transform):
    """Images to float32 (B, C, H, W), normalised by (x/255 − mean)/std.

    Takes a PIL image, an array (H, W, C) or (H, W) of uint8, a tensor (C, H, W) of uint8, a batch of them (tensors and
    arrays with one dimension more), or a list.

    Args:
        shape: (C, H, W) of what the model sees.
        mean, std: of every channel, in units of 255.
        resize: the shorter side, in pixels, before the middle is cut out; None to scale images of another size to H×W.
    """

    kind = "images"
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.shape

    def __call__(self, examples: Any, *, device: torch.device | str = "cpu") -> Tensor:
        place = torch.device(device)
        return Normalisation(self.mean, self.std, device=place)(self.pixels(examples).to(place))

    def pixels(self, examples: Any) -> Tensor:
        """uint8 (B, *shape): sized, and not yet normalised."""
        if isinstance(examples, list | tuple):
            return torch.cat([self.pixels(each) for each in examples])
        images = self._tensor(examples)
        if images.shape[1] != self.shape[0]:
            raise ValueError(f"images have {images.shape[1]} channels, and the model takes {self.shape[0]}")
        return self._sized(images)

    def _tensor(self, images: Any) -> Tensor:
        """uint8 (B, C, H, W)."""
        if isinstance(images, Image.Image):
            images = np.array(images.convert("L" if self.shape[0] == 1 else "RGB"))
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(images[..., None] if images.ndim == 2 else images).movedim(-1, -3)
        if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.ndim not in (3, 4):
            found = f"{images.dtype} of {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(
                f"images are {found}; give PIL images, uint8 tensors (B, C, H, W) or uint8 arrays (B, H, W, C)"
            )
        return images if images.ndim == 4 else images[None]

    def _sized(self, images: Tensor) -> Tensor:
        from torchvision.transforms import v2

        if self.resize is not None:
            return v2.CenterCrop(list(self.shape[1:]))(v2.Resize(self.resize)(images))
        return images if images.shape[2:] == self.shape[1:] else v2.Resize(list(self.shape[1:]))(images)


@dataclass(frozen=True, kw_only=True)
class VectorTransform(Transform):
    """Rows of numbers (B, *shape), or one of them, to float32: (x − mean)/std.

    Args:
        shape: of one row.
        columns: names of its numbers, where the file has names.
        mean, std: of every number, nested as the row is.
        target_mean, target_std: of the numbers to predict; None where classes are.
    """

    kind = "vectors"
    shape: tuple[int, ...]
    columns: tuple[str, ...] | None = None
    mean: tuple[Any, ...]
    std: tuple[Any, ...]
    target_mean: tuple[float, ...] | None = None
    target_std: tuple[float, ...] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.shape

    def __call__(self, examples: Any, *, device: torch.device | str = "cpu") -> Tensor:
        rows = torch.as_tensor(np.asarray(examples, dtype=np.float64))
        rows = rows if rows.ndim > len(self.shape) else rows[None]
        if tuple(rows.shape[1:]) != self.shape:
            named = f": {', '.join(self.columns)}" if self.columns else ""
            raise ValueError(f"rows are {tuple(rows.shape[1:])}, and the model takes {self.shape}{named}")
        mean, std = (torch.tensor(each, dtype=torch.float64) for each in (self.mean, self.std))
        return ((rows - mean) / std).to(device, torch.float32)

    def restore(self, outputs: Tensor) -> Tensor:
        if self.target_mean is None or self.target_std is None:
            return outputs
        return outputs * outputs.new_tensor(self.target_std) + outputs.new_tensor(self.target_mean)


def check_images(transform: Transform, shape: tuple[int, ...], classes: int) -> None:
    """Raise ValueError where a model that `transform` is of takes no images of `shape`, or knows other classes."""
    if not isinstance(transform, ImageTransform):
        raise ValueError(f"are images, and the model takes {transform.kind}")
    if transform.shape != tuple(shape):
        raise ValueError(f"images are {tuple(shape)}, and the model takes {transform.shape}")
    if transform.outputs != classes:
        raise ValueError(f"there are {classes} classes, and the model knows {transform.outputs}")


def _json(value: Any) -> Any:
    return [_json(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
