"""What an architecture asks of an example."""

import math
from typing import Any


def image_shape(shape: Any) -> tuple[int, int, int]:
    """Channels, height and width; raises ValueError where an example is no image."""
    numbers = _numbers(shape, "images")
    if len(numbers) != 3:
        raise ValueError(f"this model takes images, and an example is of the shape {numbers}: take model=mlp")
    channels, height, width = numbers
    return channels, height, width


def flat_size(shape: Any) -> int:
    """How many numbers an example has; raises ValueError where it is text."""
    return math.prod(_numbers(shape, "numbers"))


def text_shape(shape: Any) -> Any:
    """`length`, `vocabulary` and `padding` of texts; raises ValueError where an example is none."""
    if isinstance(shape, tuple):
        raise ValueError(f"this model reads texts, and an example is of the shape {shape}: take data=glue")
    return shape


def _numbers(shape: Any, what: str) -> tuple[int, ...]:
    if not isinstance(shape, tuple):
        raise ValueError(f"this model takes {what}, and an example is a text: take model=auto_text")
    return shape
