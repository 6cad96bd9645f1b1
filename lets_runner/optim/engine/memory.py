"""Tensors as large as the parameters that a variant keeps from step to step, and that belong to its state."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.state import Stateful
from lets_runner.optim.engine.vector import Vector


class Owner(Protocol):
    """The optimizer whose memory it is."""

    @property
    def parameters(self) -> list[Tensor]: ...

    def unless_bad(self, values: Vector, otherwise: Sequence[Tensor | float] | None = None) -> Vector: ...

    def is_bad(self) -> bool: ...


class Memory(Stateful):
    """One tensor a parameter, None until it is first kept.

        memory = Memory(optimizer)
        memory.keep(step.params, values)
        values = memory.recall(step.params)

    Parameters without a gradient in a step keep what they had, and so do all in a step that was not finite; unless
    `lasting` is False, for what the next step uses up.
    """

    carries = ("_kept",)

    def __init__(self, optimizer: Owner, *, lasting: bool = True):
        self._optimizer, self._lasting = optimizer, lasting
        self._kept: dict[Tensor, Tensor] = {}

    def keep(self, params: Vector, values: Vector) -> None:
        if self._lasting and self._kept.keys() >= set(params):
            values = self._optimizer.unless_bad(values, [self._kept[p] for p in params])
        elif self._lasting and self._optimizer.is_bad():
            return  # nothing old could stand in, and zeros would pass for values; asking waits, but only at first
        self._kept.update(zip(params, values, strict=True))

    def recall(self, params: Vector, default: Vector | None = None) -> Vector:
        """What was kept for `params`; where nothing was, `default`'s tensor, or zeros without one."""
        others = [None] * len(params) if default is None else default
        kept = [self._kept.get(p, other) for p, other in zip(params, others, strict=True)]
        return [torch.zeros_like(p) if value is None else value for p, value in zip(params, kept, strict=True)]

    def take(self, params: Vector) -> Vector:
        """The same, and forget everything."""
        values = self.recall(params)
        self._kept = {}
        return values

    def forget(self) -> None:
        """Have nothing kept any more."""
        if self._kept:
            self._kept = {}

    def state_dict(self) -> dict[str, Any]:
        return {"tensors": [self._kept.get(p) for p in self._optimizer.parameters]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        known = zip(self._optimizer.parameters, state["tensors"], strict=True)
        self._kept = {p: vector.sharded_like(tensor, p) for p, tensor in known if tensor is not None}
