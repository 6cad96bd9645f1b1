"""Schedules of the learning rate beside those of torch, a step at a time."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def inverse_sqrt(optimizer: Optimizer, *, warmup: int) -> LambdaLR:
    """Up along a straight line for `warmup` steps, then down with 1/√step (Vaswani et al. 2017, arXiv 1706.03762).

    The optimizer's learning rate is the highest, of step `warmup`; steps count from 1.

    Raises:
        ValueError: no step of warm-up.
    """
    if warmup < 1:
        raise ValueError(f"warmup={warmup}: must be at least 1, in steps")
    return LambdaLR(optimizer, lambda step: min((step + 1) / warmup, (warmup / (step + 1)) ** 0.5))
