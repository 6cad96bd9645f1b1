"""Scalars that live on the training device: moving averages and the optimizers of one number.

All of them are 0-dim float64 tensors, and every update takes `active`, a 0-dim bool tensor: where it is False
the scalar rests. So a rule can skip an update without asking the accelerator what it computed.
"""

import torch
from torch import Tensor

from lets_runner.optim.engine.state import Stateful


def scalar(value: float | Tensor, device: torch.device) -> Tensor:
    """A 0-dim tensor on `device`, float64 where the device has it. Never waits for the device."""
    if isinstance(value, Tensor):
        return value
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return torch.full((), value, dtype=dtype, device=device)


class Ema(Stateful):
    """The bias-corrected exponential moving average; a decay of 0 gives the latest value."""

    remembers = ("total", "weight")

    def __init__(self, decay: float, device: torch.device):
        self.decay = decay
        self.total = scalar(0.0, device)
        self.weight = scalar(0.0, device)

    def update(self, value: Tensor, active: Tensor) -> None:
        total = self.decay * self.total + (1 - self.decay) * value
        weight = self.decay * self.weight + (1 - self.decay)
        self.total = torch.where(active, total, self.total)
        self.weight = torch.where(active, weight, self.weight)

    @property
    def mean(self) -> Tensor:
        """The average so far; nan before the first value."""
        return self.total / self.weight


class ScalarSGD(Stateful):
    """x ← x − lr · gradient."""

    def __init__(self, lr: float, device: torch.device):
        self.lr = lr

    def step(self, x: Tensor, gradient: Tensor, active: Tensor) -> Tensor:
        return torch.where(active, x - self.lr * gradient, x)


class ScalarAdam(Stateful):
    """Adam (Kingma & Ba 2015, Algorithm 1) on one number."""

    remembers = ("first", "second")

    def __init__(self, lr: float, device: torch.device, *, eps: float, betas: tuple[float, float] = (0.9, 0.999)):
        self.lr, self.eps = lr, eps
        self.first = Ema(betas[0], device)  # its weight is 1 − β₁ᵗ: the bias correction comes with it
        self.second = Ema(betas[1], device)

    def step(self, x: Tensor, gradient: Tensor, active: Tensor) -> Tensor:
        self.first.update(gradient, active)
        self.second.update(gradient.square(), active)
        moved = x - self.lr * self.first.mean / (self.second.mean.sqrt() + self.eps)
        return torch.where(active, moved, x)


class ScalarNormalised(Stateful):
    """x ← x − lr clip(gradient/r, ±3), with r² ← .95 r² + .05 min(gradient², 9 r²) afterwards.

    However large or small gradients are, x goes as far; and one that stands out moves neither x nor r by much.

    Args:
        warmup: so many gradients teach r alone.
    """

    DECAY = 0.95
    MOST = 3.0  # r that a gradient counts for
    remembers = ("square", "seen")

    def __init__(self, lr: float, device: torch.device, *, warmup: int = 27):
        self.lr, self.warmup = lr, warmup
        self.square = scalar(0.0, device)  # r²
        self.seen = scalar(0.0, device)

    def step(self, x: Tensor, gradient: Tensor, active: Tensor) -> Tensor:
        square = torch.where(self.seen == 0, gradient.square(), self.square)
        move = (gradient / square.sqrt().clamp(min=torch.finfo(square.dtype).tiny)).clamp(-self.MOST, self.MOST)
        bounded = torch.minimum(gradient.square(), self.MOST**2 * square)
        self.square = torch.where(active, self.DECAY * square + (1 - self.DECAY) * bounded, self.square)
        self.seen = self.seen + active
        return torch.where(active & (self.seen > self.warmup), x - self.lr * move, x)
