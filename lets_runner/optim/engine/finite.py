"""What happens when a loss or a gradient is no longer finite: the weights stay as they were before the step.

On a CPU a check answers at once. On an accelerator asking would make the host wait in every step, so there the
verdict stays on the device, keeps the update from happening there, and reaches the host a few steps later.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lets_runner.optim.engine.scaling import LossScale, NoScale
from lets_runner.optim.engine.state import Stateful
from lets_runner.optim.engine.vector import Vector

PASSES = ("first", "perturbed", "validation", "second training")
LATENCY = 4  # steps after which several processes read a verdict, all of them in the same step


class NonFiniteError(FloatingPointError):
    """A pass of a step gave a loss or gradient that is infinite or not a number.

    `pass_name` is one of `PASSES`, `step` counts from 1, `rho` is the radius.
    """

    def __init__(self, pass_name: str, step: int, rho: float):
        self.pass_name, self.step, self.rho = pass_name, step, rho
        super().__init__(
            f"step {step}: the {pass_name} pass gave a non-finite loss or gradient (rho = {rho:.4g}); the weights are "
            "as before the step. A smaller learning rate or a smaller rho usually helps"
        )

    def __reduce__(self) -> tuple:
        return type(self), (self.pass_name, self.step, self.rho)


class ImmediateGuard(Stateful):
    """For devices whose results the host has at once."""

    immediate = True
    has_updated = True  # or not: here it makes no difference
    remembers = ("skipped",)

    def __init__(self, *, skip: bool, scale: NoScale | LossScale):
        self._skip, self._scale = skip, scale
        self.skipped = 0
        self._number = 0

    def begin(self) -> None:
        """The next step is the present one."""
        self._number += 1

    def go_on_after(self, number: int) -> None:
        """So many steps were taken before."""
        self._number = number

    def check(self, pass_name: str, rho: Tensor, *values: Tensor) -> None:
        """Raise NonFiniteError unless every 0-dim tensor of `values` is finite."""
        if not all(math.isfinite(value) for value in values):
            raise NonFiniteError(pass_name, self._number, float(rho))

    def update(self, base: Optimizer) -> None:
        base.step()

    def unless_bad(self, values: Vector, otherwise: Sequence[Tensor | float] | None = None) -> Vector:
        return values

    def is_bad(self) -> bool:
        return False  # or the check would have raised

    def close(self, *, bad: bool, updated: bool) -> bool:
        """End the step; returns whether a bad one is dealt with, by a lower scale or because bad ones are skipped."""
        recovered = bool(self._scale.update(bad)) or self._skip
        self.skipped += bad and recovered and not updated
        return recovered

    def poll(self, rho: Tensor, *, wait: bool = False) -> None:
        """Raise what an earlier check found out; here checks raise themselves."""


class DeferredGuard(Stateful):
    """For accelerators: nothing waits, an update after a bad pass does nothing, the host learns of it later.

    A fused base optimizer (`fused=True`) then skips weights and state inside its kernel; any other one sees a zero
    gradient, and its weights are put back. With `skip` a bad step is counted and the next one starts afresh; without,
    all further updates rest until `poll` raises. A validation pass comes after its step's update: when it is the bad
    one, that last update stands.

    Processes that share a batch (`together`) come to the same verdict, though their devices not at the same time. They
    must raise in the same step all the same: a process that went on would wait for the others in its next collective.
    """

    immediate = False
    carries = ("_verdict", "_skipped", "_number")

    def __init__(self, device: torch.device, *, skip: bool, scale: NoScale | LossScale, together: bool = False):
        self._skip, self._scale, self._together = skip, scale, together
        self._verdict = torch.zeros((), dtype=torch.int64, device=device)  # 0, or step · len(PASSES) + pass
        self._number = torch.zeros((), dtype=torch.int64, device=device)  # of the step: a CUDA graph knows no other
        self._skipped = torch.zeros((), dtype=torch.int64, device=device)
        self._mail: tuple[Tensor, torch.Event | None] | None = None
        self._age = 0  # of the mail, in steps
        self._fresh = True  # no update yet

    @property
    def skipped(self) -> int:
        return int(self._skipped)

    @property
    def has_updated(self) -> bool:
        """Whether an update was made: until then every step waits for its verdict."""
        return not self._fresh

    def begin(self) -> None:
        self._number = self._number + 1

    def go_on_after(self, number: int) -> None:
        self._number = torch.full_like(self._number, number)

    def check(self, pass_name: str, rho: Tensor, *values: Tensor) -> None:
        bad = (torch.stack(values) * 0 != 0).any()  # ∞ · 0 is not a number; `isfinite` takes four kernels a value
        code = self._number * len(PASSES) + PASSES.index(pass_name)
        self._verdict = torch.where(bad & (self._verdict == 0), code, self._verdict)

    def update(self, base: Optimizer) -> None:
        bad = self._verdict != 0
        fresh, self._fresh = self._fresh, False
        if fresh and bool(bad):
            # The first update allocates the state, and a kernel that skips it would leave it unset.
            # Waiting once, before there is much to overlap with, costs nothing.
            self._fresh = True
        elif all(group.get("fused") for group in base.param_groups):
            base.found_inf = bad.float()  # type: ignore[attr-defined]
            base.step()
            del base.found_inf  # type: ignore[attr-defined]
        else:
            _step_unless(bad, base)
        self._skipped = self._skipped + bad

    def unless_bad(self, values: Vector, otherwise: Sequence[Tensor | float] | None = None) -> Vector:
        """`otherwise`, or zeros, in place of `values` where this or an earlier step was bad."""
        bad = self._verdict != 0
        others = [0.0] * len(values) if otherwise is None else otherwise
        return [torch.where(bad, other, value) for value, other in zip(values, others, strict=True)]

    def is_bad(self) -> bool:
        """Whether this or an earlier step was bad; the host waits for the answer."""
        return bool(self._verdict != 0)

    def close(self, *, bad: bool, updated: bool) -> bool:
        """End the step; both are for guards that know by now."""
        recovered = torch.as_tensor(self._scale.update(self._verdict != 0))
        self._verdict = torch.where(recovered | self._skip, 0, self._verdict)
        return True

    def poll(self, rho: Tensor, *, wait: bool = False) -> None:
        """Raise what an earlier step found out, if the host knows it by now, or must wait for it."""
        if self._skip:
            return
        if wait:
            self._mail = (self._verdict, None)
        elif self._mail is None:
            self._post()
            return
        elif not self._arrived(self._mail[1]):
            return
        verdict, _ = self._mail
        self._mail = None
        if code := int(verdict):
            self._verdict = torch.zeros_like(self._verdict)
            raise NonFiniteError(PASSES[code % len(PASSES)], code // len(PASSES), float(rho))

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._skipped = torch.full_like(self._skipped, state["skipped"])

    def _arrived(self, event: torch.Event | None) -> bool:
        """Whether the host reads its mail in this step; several processes wait for it in a step agreed beforehand."""
        self._age += 1
        if not self._together:
            return event is None or event.query()
        if self._age < LATENCY:
            return False
        if event is not None:
            event.synchronize()
        return True

    def _post(self) -> None:
        self._age = 0
        if self._verdict.device.type == "cpu":
            self._mail = (self._verdict, None)
            return
        host = torch.empty((), dtype=torch.int64, pin_memory=True).copy_(self._verdict, non_blocking=True)
        event = torch.Event(self._verdict.device)
        event.record()
        self._mail = (host, event)


def _step_unless(bad: Tensor, base: Optimizer) -> None:
    params = [p for group in base.param_groups for p in group["params"] if p.grad is not None]
    before = [p.clone() for p in params]
    for p in params:
        p.grad = torch.where(bad, 0.0, p.grad)
    base.step()
    for p, old in zip(params, before, strict=True):
        p.copy_(torch.where(bad, old, p))


def guard(
    device: torch.device, *, skip: bool, scale: NoScale | LossScale, together: bool
) -> ImmediateGuard | DeferredGuard:
    """The guard that suits `device`; `together` with other processes or alone."""
    if device.type == "cpu":
        return ImmediateGuard(skip=skip, scale=scale)
    return DeferredGuard(device, skip=skip, scale=scale, together=together)
