"""Schedules of the learning rate beside those of torch, a step at a time, and a warm-up for any of them."""

from typing import Any

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


def warmed_up(
    schedule: Any, optimizer: Optimizer, *, epoch_steps: int, warmup_epochs: float = 0, warmup_steps: int = 0
) -> Any:
    """`schedule` with a warm-up in front of it, of so many epochs or steps; itself where there are none.

    Raises:
        ValueError: a negative warm-up, or one said twice.
    """
    for name, length in {"warmup_epochs": warmup_epochs, "warmup_steps": warmup_steps}.items():
        if length < 0:
            raise ValueError(f"{name}={length}: must be at least 0")
    if warmup_epochs and warmup_steps:
        raise ValueError(f"warmup_steps={warmup_steps}: warmup_epochs={warmup_epochs} says it too; leave one of them 0")
    steps = warmup_steps or round(warmup_epochs * epoch_steps)
    return Warmup(schedule, optimizer, steps) if steps else schedule


class Warmup:
    """The rates of another schedule, t/(n + 1) of them in step t of the first n; steps count from 1.

    The other one counts on meanwhile: after the warm-up the rates are as if there had been none. Every parameter group
    keeps its share.
    """

    def __init__(self, schedule: Any, optimizer: Optimizer, steps: int):
        self.schedule, self.optimizer, self.steps = schedule, optimizer, steps
        self.done = 0
        self._slow_down()

    def step(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate  # some schedules go on from what stands there
        self.schedule.step()
        self.done += 1
        self._slow_down()

    def state_dict(self) -> dict[str, Any]:
        return {"schedule": self.schedule.state_dict(), "done": self.done, "rates": list(self._rates)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.schedule.load_state_dict(state_dict["schedule"])
        self.done, self._rates = state_dict["done"], list(state_dict["rates"])

    def _slow_down(self) -> None:
        self._rates = [group["lr"] for group in self.optimizer.param_groups]  # the other schedule's
        factor = min(1.0, (self.done + 1) / (self.steps + 1))
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
