"""The radius of a SAM variant: the one place where ρ is kept."""

import math

from torch import Tensor

from lets_runner.optim.engine.guarded import GuardedPasses
from lets_runner.optim.engine.scalar import scalar


class Radius(GuardedPasses):
    """ρ ≥ 0 as a 0-dim tensor on the device, so that moving it waits for nothing.

    `rho_bounds` says where a radius rule may take it by default; `limit_radius` narrows that.
    """

    remembers: tuple[str, ...] = (*GuardedPasses.remembers, "_rho", "_rho_is_zero")
    rho_bounds: tuple[float, float] = (1e-3, 0.5)
    smallest_rho = 0.0  # a rule that computes ρ goes no lower

    _rho: Tensor
    _rho_is_zero: bool

    @property
    def rho(self) -> float:
        """The radius as a number. Reading it waits for the device; `last.rho` does not."""
        return float(self._rho)

    @rho.setter
    def rho(self, value: float) -> None:
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"rho={value}: the radius must be a finite number of at least 0")
        self._rho_is_zero = value == 0  # for good, as a ρ that a schedule lets touch 0 is not
        self._rho = scalar(value, self.device)

    @property
    def rho_tensor(self) -> Tensor:
        """The radius as a 0-dim tensor on the device."""
        return self._rho

    @property
    def radius_is_zero(self) -> bool:
        """Whether ρ was set to 0: then no step perturbs."""
        return self._rho_is_zero

    def limit_radius(self, smallest: float) -> None:
        """Have rules leave ρ at or above `smallest`, below which a change of the gradient drowns in rounding."""
        if not 0 <= smallest < self.rho_bounds[1]:
            raise ValueError(f"smallest_rho={smallest}: must lie in [0, {self.rho_bounds[1]:g})")
        self.smallest_rho = smallest
        self.rho_bounds = max(self.rho_bounds[0], smallest), self.rho_bounds[1]

    def move_radius(self, rho: Tensor | float) -> None:
        """Set ρ, a number or a 0-dim tensor, without waiting for the device."""
        self._rho_is_zero = False
        self._rho = scalar(rho, self.device)
