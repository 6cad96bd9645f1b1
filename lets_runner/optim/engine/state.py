"""State: what an object must know from one step to the next, said once, for checkpoints and for CUDA graphs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

Path = tuple[Any, ...]


class Stateful:
    """Names in `remembers` the attributes that a resumed run needs, in `carries` those that only the next step does.

    They are numbers, tensors, lists and dicts of these, or Stateful themselves. A step may put a new tensor in the
    place of an old one; a CUDA graph of the step copies it back to where the next replay reads it.
    """

    remembers: tuple[str, ...] = ()
    carries: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, Any]:
        return {name: saved(getattr(self, name)) for name in self.remembers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, tensors as they are: the outermost object has copied them."""
        for name in self.remembers:
            restore(self, name, state[name])


def saved(value: Any) -> Any:
    """A value as it goes into a state dict."""
    return value.state_dict() if hasattr(value, "state_dict") else value


def restore(owner: Any, name: str, value: Any) -> None:
    """Give an attribute what `saved` made of it."""
    attribute = getattr(owner, name)
    if hasattr(attribute, "load_state_dict"):
        attribute.load_state_dict(value)
    else:
        setattr(owner, name, value)


def copied(value: Any, device: torch.device) -> Any:
    """A saved value with tensors of its own, on `device`."""
    if isinstance(value, Tensor):
        return value.to(device, copy=True)
    if isinstance(value, dict):
        return {key: copied(item, device) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item, device) for item in value]
    return value


@dataclass(frozen=True)
class Slot:
    """A place where a tensor of the state stands; `put` sets another one there."""

    tensor: Tensor
    put: Callable[[Tensor], None]


def attributes(owner: Stateful) -> Iterator[tuple[Path, Stateful, str]]:
    """Every attribute that makes up the state of `owner`, also of those that it consists of: path, whose, and name."""
    for name in dict.fromkeys((*owner.remembers, *owner.carries)):
        value = getattr(owner, name)
        if isinstance(value, Stateful):
            for path, whose, attribute in attributes(value):
                yield (name, *path), whose, attribute
        else:
            yield (name,), owner, name


def tensors(owner: Stateful) -> dict[Path, Slot]:
    """Every tensor of the state of `owner`, by where it stands."""
    slots: dict[Path, Slot] = {}
    for path, whose, name in attributes(owner):
        slots.update(inside(getattr(whose, name), path, partial(setattr, whose, name)))
    return slots


def inside(value: Any, path: Path, put: Callable[[Any], None]) -> Iterator[tuple[Path, Slot]]:
    """The tensors inside one value, which `put` would replace."""
    if isinstance(value, Tensor):
        yield path, Slot(value, put)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from inside(
                item, (*path, id(key) if isinstance(key, Tensor) else key), partial(value.__setitem__, key)
            )
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from inside(item, (*path, index), partial(value.__setitem__, index))
