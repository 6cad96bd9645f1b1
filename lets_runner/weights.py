"""Weights from a file, and how they come into a network: all of them or none, but for a head of other classes.

Nothing is unpickled: files are safetensors, or what torch saved and reads with `weights_only`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lets_runner.extra import missing

Weights = dict[str, Tensor]
# What programs put around a state dict, and around the names in it.
NESTS = ("state_dict", "model", "model_state_dict")
WRAPPERS = ("module.", "_orig_mod.", "model.")
COUNTERS = ".num_batches_tracked"  # which older files lack


def read_weights(path: Path) -> Weights:
    """The state dict in a file, on the CPU.

    Raises:
        ValueError: it cannot be read, or holds none; in a few words that go on from its name.
    """
    if not path.is_file():
        raise ValueError("there is no such file")
    try:
        state = _safetensors(path) if path.suffix == ".safetensors" else _saved(path)
    except Exception as error:  # whatever a file of another kind makes a reader raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"cannot be read as weights ({reason})") from error
    for name in NESTS:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
            break
    if not (isinstance(state, Mapping) and state and all(isinstance(value, Tensor) for value in state.values())):
        raise ValueError("holds no weights by their names")
    return dict(state)


def fit(model: nn.Module, weights: Mapping[str, Tensor], *, outputs: int) -> str:
    """Load `weights` into `model`; returns what was not as it is in the file, in words, and "" if nothing was.

    Prefixes that programs put before all names are taken off, or put on. A head made for another number of classes, or
    that is not there, stays as it is in the model.

    Args:
        outputs: of the model; what makes so many is a head.

    Raises:
        ValueError: they are not those of this network; in a few words that go on from the name of the file.
    """
    own = model.state_dict()
    prefix, found = _renamed(weights, own)
    if not any(name in own for name in found):
        raise ValueError(f"has none of this network's weights: {_some(found)} there, {_some(own)} here")
    odd = [n for n in own if n not in found and not n.endswith(COUNTERS)]
    odd += [n for n in own if n in found and found[n].shape != own[n].shape]
    heads = _heads(model, {name.rpartition(".")[0] for name in odd}, found, outputs)
    if wrong := [name for name in odd if name.rpartition(".")[0] not in heads]:
        raise ValueError(f"{_differs(wrong[0], found, own[wrong[0]])}, and so for {len(wrong) - 1} others")
    if strangers := [name for name in found if name not in own]:
        raise ValueError(f"has {_some(strangers)}, for which this network has no place")
    taken = {name: found[name] for name in own if name in found and name.rpartition(".")[0] not in heads}
    if not all(torch.isfinite(value).all() for value in taken.values() if value.is_floating_point()):
        raise ValueError("has weights that are not finite")
    model.load_state_dict(taken, strict=False)
    said = [f"{' and '.join(heads)} {'is' if len(heads) == 1 else 'are'} new, for {outputs} classes"] if heads else []
    return ", ".join([*([f"{prefix!r} is left out of its names"] if prefix else []), *said])


def _safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise missing("safetensors", "timm") from error
    return load_file(path)


def _saved(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _renamed(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[str, Weights]:
    """The prefix to take off the names in a file, and what is left; of all that there are the one that fits best."""
    prefixes = {"", *WRAPPERS, _common(weights)}
    prefixes |= {f"{outer}{inner}" for outer in WRAPPERS for inner in WRAPPERS}
    candidates = [(p, {n.removeprefix(p): w for n, w in weights.items() if n.startswith(p)}) for p in sorted(prefixes)]
    candidates.append(("", {f"{_common(own)}{name}": weight for name, weight in weights.items()}))
    return max(candidates, key=lambda candidate: sum(name in own for name in candidate[1]))


def _common(names: Mapping[str, Any]) -> str:
    """What all names begin with, in whole words."""
    split = [name.split(".")[:-1] for name in names]
    words = []
    for column in zip(*split, strict=False):
        if len({*column}) > 1:
            break
        words.append(column[0])
    return "".join(f"{word}." for word in words)


def _heads(model: nn.Module, odd: set[str], found: Weights, outputs: int) -> list[str]:
    """Those of the `odd` modules that make the outputs: nothing but heads comes after them."""
    heads: list[str] = []
    modules = [(name, dict(part.named_parameters(recurse=False))) for name, part in model.named_modules()]
    for name, params in reversed([(name, params) for name, params in modules if name and params]):
        if not all(len(param) == outputs for param in params.values() if param.ndim):
            break
        theirs = [found.get(f"{name}.{key}", param) for key, param in params.items()]
        if all(t.shape[1:] == p.shape[1:] for t, p in zip(theirs, params.values(), strict=True)) and name in odd:
            heads.insert(0, name)
    return heads


def _differs(name: str, found: Weights, own: Tensor) -> str:
    if name not in found:
        return f"has no {name}, which this network needs"
    return f"has {name} of the shape {tuple(found[name].shape)}, and this network of {tuple(own.shape)}"


def _some(names: Any) -> str:
    first = next(iter(names))
    return first if len(names) == 1 else f"{first} and {len(names) - 1} others"
