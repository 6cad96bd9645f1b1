"""What a CUDA graph must find in fixed places, and the hosts that learn of it in one step and know it in the next.

Before a step is captured, one of its kind is taken eagerly with a `RehearsedHost`, which notes what the step asks for;
the places are made then, outside of the capture, which runs with a `RecordedHost`: it hands them out.
"""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lets_runner.optim.engine.host import Host, Mark, Plan
from lets_runner.optim.engine.scalar import scalar


class NotGraphableError(Exception):
    """A step cannot be captured; the text says why."""


class Graph(Protocol):
    """What a recorder makes: see `cuda_graph.CudaGraph`."""

    executes: bool

    def record(self, body: Callable[[], None]) -> None: ...

    def mark(self) -> None: ...

    def rewind(self) -> None: ...

    def replay(self) -> None: ...


class Recorder(Protocol):
    """Who makes graphs: see `cuda_graph.CudaRecorder`."""

    def aside(self) -> AbstractContextManager[None]: ...

    def watch(self) -> AbstractContextManager[list[str]]: ...

    def offset(self) -> int: ...

    def graph(self, rewinds: Sequence[int]) -> Graph: ...


class StaticBatch:
    """A batch in a fixed place on `device`."""

    def __init__(self, batch: Any, device: torch.device):
        self.batch = pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device, copy=True), batch)
        self._tensors = tensors_of(self.batch)

    def fill(self, batch: Any) -> Any:
        """Take over another batch of the same `form`; returns the one in the fixed place."""
        for own, given in zip(self._tensors, tensors_of(batch), strict=True):
            own.copy_(given, non_blocking=True)
        return self.batch


def tensors_of(batch: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]


def form(batch: Any) -> Hashable:
    """What batches must share to take the same place: shapes, types, and whatever in them is not a tensor."""
    leaves, spec = pytree.tree_flatten(batch)
    return spec, tuple((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves)


class StaticPlan:
    """A fixed place for what a plan makes of a step's number: a 0-dim tensor, or a list of them."""

    def __init__(self, plan: Plan, value: float | list[float], device: torch.device):
        self._plan = plan
        on_device = scalar(0.0, device)
        self._tensor = on_device if isinstance(value, float | int) else on_device.repeat(len(value))
        self.value = list(self._tensor.unbind()) if self._tensor.ndim else self._tensor

    def fill(self, number: int) -> None:
        """Hold the value of the step with this number."""
        value = self._plan(number)
        if not isinstance(value, list):
            self._tensor.fill_(value)
            return
        on_host = torch.tensor(value, dtype=self._tensor.dtype, pin_memory=self._tensor.is_cuda)
        self._tensor.copy_(on_host, non_blocking=True)


@dataclass
class Rehearsal:
    """What a step asked for: the form of its validation batch, if it used one, its plans and what they came to, and how
    far past the state in which it began each random state was that it went back to.
    """

    validation: Hashable | None = None
    plans: list[tuple[Plan, Any]] = field(default_factory=list)
    rewinds: list[int] = field(default_factory=list)
    reads_number: bool = False


class RehearsedHost(Host):
    """A host that takes notes. `offset` tells how many random numbers have been drawn so far."""

    def __init__(self, number: int, device: torch.device, *, notes: Rehearsal, offset: Callable[[], int]):
        super().__init__(number, device)
        self._notes, self._offset, self._begin = notes, offset, offset()

    @property
    def number(self) -> int:
        self._notes.reads_number = True
        return super().number

    def planned(self, plan: Plan) -> Any:
        value = super().planned(plan)
        self._notes.plans.append((plan, value))
        return value

    def mark(self) -> Mark:
        return self._offset() - self._begin, super().mark()

    def rewind(self, mark: Mark) -> None:
        distance, state = mark
        self._notes.rewinds.append(distance)
        super().rewind(state)


class RecordedHost(Host):
    """The host of a step that is captured: it has the places, in the order of the rehearsal, and no number."""

    def __init__(self, plans: Sequence[StaticPlan], graph: Graph, device: torch.device):
        super().__init__(0, device)
        self._plans, self._graph = iter(plans), graph

    @property
    def number(self) -> int:
        raise NotGraphableError("a step that is captured asks for its number")

    def planned(self, plan: Plan) -> Any:
        place = next(self._plans, None)
        if place is None:
            raise NotGraphableError("a step that is captured plans more than it did in rehearsal")
        return place.value

    def mark(self) -> Mark:
        self._graph.mark()

    def rewind(self, mark: Mark) -> None:
        self._graph.rewind()
