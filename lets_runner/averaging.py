"""The weights that are measured: those that are trained, or an exponential moving average of them.

    w̄ ← β w̄ + (1 − β) w after every step, from w̄ = w after the first

as torch's `AveragedModel` with `get_ema_multi_avg_fn(β)` and `use_buffers` has it, bit for bit, but that it waits for
the device in every step and this does not, and that counters among the buffers are the model's own here.
"""

from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import nn


class Raw:
    """The weights that are trained."""

    words = ""  # what is measured, for the summary of a run, where it is anything else

    def __init__(self, model: nn.Module):
        self.model = model

    def update(self) -> None:
        """A step has been taken."""

    def state_dict(self) -> dict[str, Any]:
        """Its part of a checkpoint."""
        return {}

    def check(self, state: dict[str, Any]) -> None:
        """Raise ValueError, a few words, if its part of the checkpoint `state` is not there or not whole."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take its part of the checkpoint `state`."""


class Averaged(Raw):
    """An average of the weights and of batch norms' statistics, in a copy of `trained`, which is not wrapped.

    Args:
        decay: β, how much of the average is kept in a step.
    """

    def __init__(self, trained: nn.Module, decay: float):
        super().__init__(deepcopy(trained).requires_grad_(False))
        self.trained, self.decay = trained, decay
        self.words = f"average of the weights, decay {decay:g}"
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        pairs = list(zip(_tensors(self.model), _tensors(self.trained), strict=True))
        averages, weights = (list(side) for side in zip(*[p for p in pairs if p[0].is_floating_point()], strict=True))
        if self.updates:
            torch._foreach_lerp_(averages, weights, 1 - self.decay)
        else:
            torch._foreach_copy_(averages, weights)
        for own, theirs in pairs:
            if not own.is_floating_point():
                own.copy_(theirs)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        return {"ema": {"updates": self.updates, "model": self.model.state_dict()}}

    def check(self, state: dict[str, Any]) -> None:
        found = state.get("ema", {}).get("model", {})
        shapes = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        if {name: getattr(tensor, "shape", None) for name, tensor in found.items()} != shapes:
            raise ValueError("has no average of these weights")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["ema"]["updates"]
        self.model.load_state_dict(state["ema"]["model"])


def _tensors(model: nn.Module) -> Any:
    return chain(model.parameters(), model.buffers())
