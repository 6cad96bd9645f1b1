"""The state of an optimizer in fixed places, so that a CUDA graph finds it where the graph before has left it.

Eager steps put new tensors where old ones were: `settle` moves them into the fixed places before a graph reads them,
`carry` does so as a part of the graph. What the host keeps besides, counters and which places are in use, no graph can
change: `HostState` tells what a captured step changed there, so that it can be done again after every replay.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lets_runner.optim.engine.state import Slot, Stateful, attributes, inside, tensors
from lets_runner.optim.graphs.rehearsal import NotGraphableError

Place = tuple[Hashable, ...]  # a path, and the shape and type of what stands there
Attribute = tuple[Any, str]


class StaticState:
    """The tensors of a radius rule or a SAM, of what it wraps, and of all that these consist of."""

    def __init__(self, optimizer: Any):
        self._owners: list[Stateful] = [optimizer] if optimizer is optimizer.sam else [optimizer, optimizer.sam]
        self._base, self._parameters = optimizer.base, optimizer.sam.parameters
        self._places: dict[Place, Tensor] = {}
        self._structures: dict[Hashable, int] = {}
        self._structure = 0
        self._watched: list[tuple[Any, str, Any]] | None = None  # None where somebody may have put tensors elsewhere

    def weights(self) -> Hashable:
        """Where the parameters lie and which of them are trained; graphs are of no use once that changes."""
        return tuple((p.data_ptr(), p.requires_grad) for group in self._base.param_groups for p in group["params"])

    def structure(self) -> int:
        """A number for what the state consists of at present: graphs read and leave a certain one."""
        if self._is_disturbed():
            self._structure = self._number_of(self._slots())
        return self._structure

    def disturb(self) -> None:
        """An eager step comes, and will put tensors where it likes."""
        self._watched = None

    def settle(self) -> None:
        """Move the state into its fixed places."""
        if not self._is_disturbed():
            return
        slots = self._slots()
        self._structure = self._number_of(slots)
        for place, slot in slots.items():
            if place not in self._places:
                # A copy, for others may hold the tensor itself; the base optimizer's are nobody else's.
                self._places[place] = slot.tensor if place[0] == "base" else slot.tensor.clone()
            elif slot.tensor is not self._places[place]:
                self._places[place].copy_(slot.tensor)
            slot.put(self._places[place])
        self._watch()

    def carry(self) -> None:
        """While a graph is made, after the step: its state goes into the fixed places."""
        fixed = {tensor.data_ptr() for tensor in self._places.values()}
        moves: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}
        for place, slot in self._slots().items():
            if place not in self._places:
                raise NotGraphableError(f"a step that is captured leaves state that the one before did not: {place[0]}")
            target, source = self._places[place], slot.tensor
            if source is not target:
                source = source.clone() if source.data_ptr() in fixed else source  # or it may be written over first
                moves.setdefault(source.dtype, []).append((target, source))
                slot.put(target)
        for pairs in moves.values():
            torch._foreach_copy_([target for target, _ in pairs], [source for _, source in pairs])

    def left_by(self, structure: int) -> None:
        """A replay has left the state in its places, and of this structure."""
        self._structure = structure
        self._watch()

    def on_host(self) -> "HostState":
        """What the host keeps, as it is now."""
        return HostState([(whose, name, _copy(getattr(whose, name))) for whose, name in self._attributes()])

    def _attributes(self) -> list[Attribute]:
        return [(whose, name) for owner in self._owners for _, whose, name in attributes(owner)]

    def _slots(self) -> dict[Place, Slot]:
        slots = {
            (number, *path): slot for number, owner in enumerate(self._owners) for path, slot in tensors(owner).items()
        }
        for index, param in enumerate(self._parameters):
            if state := self._base.state.get(param):
                slots.update(inside(state, ("base", index), lambda value: None))
        return {(*path, slot.tensor.shape, slot.tensor.dtype): slot for path, slot in slots.items()}

    def _number_of(self, slots: dict[Place, Slot]) -> int:
        return self._structures.setdefault(frozenset(slots), len(self._structures))

    def _watch(self) -> None:
        self._watched = [
            (whose, name, value)
            for whose, name in [*self._attributes(), (self._base, "state")]
            if not isinstance(value := getattr(whose, name), int | float)
        ]

    def _is_disturbed(self) -> bool:
        if self._watched is not None and any(getattr(whose, name) is not value for whose, name, value in self._watched):
            self._watched = None
        return self._watched is None


@dataclass(frozen=True)
class HostState:
    """Attributes and their values at one moment."""

    values: list[tuple[Any, str, Any]]

    def restore(self) -> None:
        for whose, name, value in self.values:
            setattr(whose, name, value)

    def effects(self, after: "HostState") -> "Effects":
        """What happened between this moment and a later one."""
        counts, settings = [], []
        before = {(id(whose), name): value for whose, name, value in self.values}
        for whose, name, value in after.values:
            old = before.get((id(whose), name))
            if type(value) is int and type(old) is int:
                counts.append((whose, name, value - old))
            elif value is not old:  # as is every list and dict, of which both have copies
                settings.append((whose, name, value))
        return Effects([count for count in counts if count[2]], settings)


@dataclass(frozen=True)
class Effects:
    """What a step changes on the host."""

    counts: list[tuple[Any, str, int]]
    settings: list[tuple[Any, str, Any]]

    def apply(self) -> None:
        """Change it again."""
        for whose, name, change in self.counts:
            setattr(whose, name, getattr(whose, name) + change)
        for whose, name, value in self.settings:
            setattr(whose, name, _copy(value))


def _copy(value: Any) -> Any:
    return value.copy() if isinstance(value, dict | list) else value
