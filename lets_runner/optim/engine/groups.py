"""Radii of parameter groups: a group with a `rho` of its own is perturbed with that in place of the optimizer's."""

import math
from typing import Any

from torch import Tensor

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.vector import Vector


class GroupRadii:
    """Scales a direction, group by group, by the group's `rho` over that of the optimizer.

    The norm that the direction is divided by stays that of all parameters. Groups without a `rho` have the factor 1.

    Args:
        groups: parameter groups, as they are when SAM is built.
        rho: the optimizer's radius.

    Raises:
        ValueError: a group's `rho` is negative or not finite, or the optimizer's is 0 and a group's is not.
    """

    def __init__(self, groups: list[dict[str, Any]], rho: float):
        self.rho = rho
        self._seen: list[Any] = []
        self._factor: dict[Tensor, float] = {}
        for group in groups:
            self.add(group)

    def add(self, group: dict[str, Any]) -> None:
        """Take a further group in."""
        own = group.get("rho")
        self._seen.append(own)
        if own is None:
            return
        if not isinstance(own, int | float) or not 0 <= own < math.inf:
            raise ValueError(f"a parameter group has rho={own}: must be a finite number of at least 0")
        if self.rho == 0 < own:
            raise ValueError(f"a parameter group has rho={own}, and SAM rho=0, which switches all of them off")
        self._factor |= dict.fromkeys(group["params"], own / self.rho if self.rho else 0.0)

    def check(self, groups: list[dict[str, Any]]) -> None:
        """Take in groups that are new; raise ValueError if the `rho` of another has changed."""
        for group in groups[len(self._seen) :]:
            self.add(group)
        if [group.get("rho") for group in groups] != self._seen:
            raise ValueError(
                "the rho of a parameter group has changed since SAM was built: set it before, or set optimizer.rho, "
                "which scales all of them"
            )

    def scaled(self, direction: Vector, params: Vector) -> Vector:
        if not self._factor:
            return direction
        return vector.weighted(direction, [self._factor.get(param, 1.0) for param in params])
