"""An optimizer around another one, which stays the owner of parameters, settings and state."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.loops import InOtherLoops
from lets_runner.optim.engine.state import Stateful, copied, restore


class OptimizerWrapper(Stateful, InOtherLoops, Optimizer):
    """Shares `param_groups` and `state` with the optimizer it wraps; its state dict nests the wrapped one's.

    A subclass names the attributes of its own that make up its state, see `Stateful`.
    """

    def __init__(self, inner: Optimizer):
        if not isinstance(inner, Optimizer):
            raise TypeError(
                f"{type(self).__name__} wraps a built optimizer, as in "
                f"SAM(torch.optim.SGD(model.parameters(), lr=0.1)), not {type(inner).__name__}"
            )
        self.inner = inner
        # What Optimizer.__init__ sets up, without a second list of parameter groups.
        self.__setstate__({"defaults": dict(inner.defaults)})

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return self.inner.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self.inner.state

    @property
    def device(self) -> torch.device:
        return self.param_groups[0]["params"][0].device

    @property
    def parameters(self) -> list[Tensor]:
        """Every parameter, in the order of the groups."""
        return [param for group in self.param_groups for param in group["params"]]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.inner.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        return {"inner": self.inner.state_dict(), **Stateful.state_dict(self)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave; raises ValueError if it is another class's state."""
        expected = {"inner", *self.remembers}
        if set(state_dict) != expected:
            raise ValueError(
                f"not a state of {type(self).__name__}: has {sorted(state_dict)}, needs {sorted(expected)}"
            )
        self.inner.load_state_dict(self._inner_state(state_dict["inner"]))
        for name in self.remembers:
            restore(self, name, copied(state_dict[name], self.device))

    def _inner_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """What the inner optimizer is to load; where weights are sharded, this process's shards of whole tensors."""
        if isinstance(self.inner, OptimizerWrapper):
            return state
        own, params = {}, self.parameters
        for index, values in state["state"].items():
            param = params[index]
            own[index] = {
                name: vector.sharded_like(value, param)
                if isinstance(value, Tensor) and value.shape == param.shape
                else value
                for name, value in values.items()
            }
        return {**state, "state": own}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__.copy()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"
