"""Loss scaling: keep the gradients of float16 from vanishing (Micikevicius et al. 2018, arXiv 1710.03740).

The loss is multiplied before it is differentiated and the gradients are divided after it. A step in which something was
not finite is skipped and the scale halved; after many good steps in a row it doubles. All of that is 0-dim
tensors on the training device, so nothing here waits.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from lets_runner.optim.engine.state import Stateful
from lets_runner.optim.engine.vector import Vector

START = 2.0**16
SMALLEST, LARGEST = 1.0, 2.0**24
PATIENCE = 2000  # good steps in a row before the scale doubles


class NoScale(Stateful):
    """Gradients as they are."""

    def up(self, loss: Tensor) -> Tensor:
        return loss

    def down(self, gradients: Vector) -> None:
        pass

    def undone(self, gradients: Vector) -> Vector:
        return gradients

    def update(self, bad: Tensor | bool) -> Tensor | bool:
        return torch.zeros_like(bad) if isinstance(bad, Tensor) else False


class LossScale(Stateful):
    """A power of two, halved after a bad step and doubled after `patience` good ones."""

    remembers = ("scale", "streak")

    def __init__(self, device: torch.device, *, start: float = START, patience: int = PATIENCE):
        self.patience = patience
        self.scale = torch.full((), start, device=device)
        self.streak = torch.zeros((), dtype=torch.int64, device=device)  # good steps since the scale last changed

    def up(self, loss: Tensor) -> Tensor:
        """The loss to differentiate."""
        return loss * self.scale

    def down(self, gradients: Vector) -> None:
        """Turn the gradients of `up(loss)` into those of `loss`, in place; exact, for the scale is a power of two."""
        if gradients:
            torch._foreach_mul_(gradients, self.scale.reciprocal())

    def undone(self, gradients: Vector) -> Vector:
        """The same as new tensors, in the graph of `gradients`."""
        return torch._foreach_div(gradients, self.scale)

    def update(self, bad: Tensor | bool) -> Tensor | bool:
        """Take note of a step, once; returns whether a lower scale may recover from a bad one, as a 0-dim bool."""
        bad = torch.as_tensor(bad)
        recoverable = bad & (self.scale > SMALLEST)
        doubles = self.streak + 1 >= self.patience
        good = torch.where(doubles, self.scale * 2, self.scale)
        self.streak = torch.where(bad | doubles, 0, self.streak + 1)
        self.scale = torch.where(bad, self.scale / 2, good).clamp(SMALLEST, LARGEST)
        return recoverable


def loss_scale(setting: Literal["dynamic"] | float | None, device: torch.device) -> NoScale | LossScale:
    """None for no scaling, "dynamic" for the usual start, or where to start.

    Raises:
        ValueError: the start is not a power of two between 1 and 2²⁴.
    """
    if setting is None:
        return NoScale()
    start = START if setting == "dynamic" else setting
    if not isinstance(start, int | float) or not SMALLEST <= start <= LARGEST or math.frexp(start)[0] != 0.5:
        raise ValueError(f"loss_scale={setting}: must be 'dynamic', a power of two between 1 and 2**24, or None")
    return LossScale(device, start=start)
