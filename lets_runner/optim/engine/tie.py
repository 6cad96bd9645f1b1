"""A radius tied to the learning rate (Zhuang et al. 2022, arXiv 2203.08065, section 4):

ρ_t = ρ_min + (ρ_max − ρ_min) (η_t − η_min)/(η_max − η_min)
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lets_runner.optim.engine.scalar import scalar


@dataclass(frozen=True)
class Tie:
    """ρ from `rho_min` to `rho_max` while the learning rate goes from `lr_min` to `lr_max`."""

    rho_max: float
    rho_min: float
    lr_max: float
    lr_min: float

    def __post_init__(self) -> None:
        if not 0 <= self.rho_min < math.inf:
            raise ValueError(f"rho_min={self.rho_min}: a radius is a finite number of at least 0")
        if not self.lr_min < self.lr_max:
            raise ValueError(f"lr_min={self.lr_min}: must lie below lr_max={self.lr_max}")

    def rho(self, lr: float | Tensor, device: torch.device) -> Tensor:
        """ρ_t at this learning rate, 0-dim; outside of [lr_min, lr_max], as in a warm-up, that of the nearer end."""
        if isinstance(lr, Tensor):
            lr = lr.to(scalar(0.0, device).dtype)
        share = (lr - self.lr_min) / (self.lr_max - self.lr_min)
        share = share.clamp(0, 1) if isinstance(share, Tensor) else min(max(share, 0.0), 1.0)
        return scalar(1.0, device) * (self.rho_min + (self.rho_max - self.rho_min) * share)
