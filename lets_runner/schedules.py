"""Schedules of the learning rate beside those of torch, a step at a time."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_linear(optimizer: Optimizer, *, warmup: int, total_steps: int) -> LambdaLR:
    """Up along a straight line in the first `warmup` steps, and down to zero along another in the rest.

    The rate is that of the optimizer in step `warmup` + 1; no step has a rate of zero. A warm-up that is longer than
    the training does not end.

    Raises:
        ValueError: a negative warm-up.
    """
    if warmup < 0:
        raise ValueError(f"warmup={warmup}: must be at least 0, in steps")

    def factor(step: int) -> float:
        return min((step + 1) / (warmup + 1), max(0, total_steps - step) / max(1, total_steps - warmup))

    return LambdaLR(optimizer, factor)


def inverse_sqrt(optimizer: Optimizer, *, warmup: int) -> LambdaLR:
    """Up along a straight line for `warmup` steps, then down with 1/√step (Vaswani et al. 2017, arXiv 1706.03762).

    The optimizer's learning rate is the highest, of step `warmup`; steps count from 1.

    Raises:
        ValueError: no step of warm-up.
    """
    if warmup < 1:
        raise ValueError(f"warmup={warmup}: must be at least 1, in steps")
    return LambdaLR(optimizer, lambda step: min((step + 1) / warmup, (warmup / (step + 1)) ** 0.5))
