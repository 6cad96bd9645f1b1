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
