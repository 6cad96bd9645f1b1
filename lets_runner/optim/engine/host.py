"""What a step asks of the host: its number, what follows from the number, and the random states it draws from.

A CUDA graph repeats what the device did, not what the host computed meanwhile. So a step asks for all of that here, and
`rehearsal` has hosts that know what a graph needs of it.
"""

from collections.abc import Callable
from typing import Any

import torch

Plan = Callable[[int], Any]  # a step's number -> a float, or a list of them
Mark = Any  # a random state, for `rewind`


class Host:
    """The host of the step with this number, counted from 1, whose tensors live on `device`."""

    def __init__(self, number: int, device: torch.device):
        self._number, self.device = number, device

    @property
    def number(self) -> int:
        return self._number

    def planned(self, plan: Plan) -> Any:
        """`plan(number)`: a float, or a list of them. In a CUDA graph tensors that hold them before every replay."""
        return plan(self._number)

    def mark(self) -> Mark:
        """The state of torch's default generators, on the host and on the device; costs a copy of some kilobytes."""
        on_device = (
            None if self.device.type == "cpu" else torch.get_device_module(self.device).get_rng_state(self.device)
        )
        return torch.get_rng_state(), on_device

    def rewind(self, mark: Mark) -> None:
        """Draw again from `mark` on: the same dropout masks, and so the same loss, as in the pass that began there."""
        host, on_device = mark
        torch.set_rng_state(host)
        if on_device is not None:
            torch.get_device_module(self.device).set_rng_state(on_device, self.device)
