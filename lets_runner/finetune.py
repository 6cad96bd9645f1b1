"""Where training begins, if not from scratch: weights of a run or of a file, and which of them are trained at all."""

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import MethodType

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from lets_runner.run.checkpoint import is_checkpoint, read_checkpoint, reported
from lets_runner.run.files import BEST, CHECKPOINTS
from lets_runner.weights import Weights, fit, read_weights

MOST = 3  # near names


def begin_from(model: nn.Module, source: str, *, outputs: int) -> str:
    """Load the weights of a run's best checkpoint, or of a file, into `model`; returns what to say about it.

    Args:
        source: a run directory, a checkpoint of a run, or a file of weights: safetensors or torch's.
        outputs: of the model.

    Raises:
        ValueError: there are none, they are damaged, or not those of this network; one line.
    """
    path = Path(source).expanduser()
    try:
        place = path / CHECKPOINTS / BEST if path.is_dir() else path
        said = fit(model, _weights(place, of_a_run=path.is_dir()), outputs=outputs)
    except ValueError as error:
        text = str(error)
        raise ValueError(f"init_from={source}: {text.removeprefix(f'{place} ')}") from error
    return f"begins with the weights of {place}{f'; {said}' if said else ''}"


def _weights(place: Path, *, of_a_run: bool) -> Weights:
    """Those that a run reports, if it is a checkpoint of one, whose checksum must be right."""
    if of_a_run and not place.is_file():
        raise ValueError(
            f"has no {CHECKPOINTS}/{BEST}; give a run directory that has, one of its checkpoints, or a file"
        )
    if of_a_run or (place.is_file() and is_checkpoint(place)):
        return reported(read_checkpoint(place))
    return read_weights(place)


def freeze(model: nn.Module, freeze: Sequence[str]) -> None:
    """Leave parameters as they are: those whose names, or whose modules' names, one of the patterns matches.

    A pattern is a glob, such as `layer1.*`; one that begins with ! takes back what those before it have matched. Batch
    norms whose weights do not move stay in evaluation mode, and so do their statistics.

    Raises:
        ValueError: a pattern that matches nothing, or they leave nothing to train.
    """
    held: set[str] = set()
    names = [name for name, _ in model.named_parameters()]
    modules = [name for name, _ in model.named_modules() if name]
    for pattern in freeze:
        glob = pattern.removeprefix("!")
        matched = {name for name in [*names, *modules] if any(fnmatchcase(part, glob) for part in _upwards(name))}
        if not matched:
            raise ValueError(f"freeze={pattern}: no weight has such a name{_near(glob, [*names, *modules])}")
        held = held - matched if pattern.startswith("!") else held | matched
    for name, param in model.named_parameters():
        if name in held:
            param.requires_grad_(False)
    if held and not any(param.requires_grad for param in model.parameters()):
        raise ValueError(f"freeze={','.join(freeze)}: leaves nothing to train")
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm | _InstanceNorm) and _stands_still(name, module, held):
            module.eval()
            module.train = MethodType(_stay, module)  # type: ignore[method-assign]


def _stands_still(name: str, module: nn.Module, held: set[str]) -> bool:
    params = [f"{name}.{key}" for key, _ in module.named_parameters(recurse=False)]
    return all(param in held for param in params) if params else name in held


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """`train` of a module that stays in evaluation mode."""
    return module


def _upwards(name: str) -> Iterable[str]:
    """The name, and those of the modules that it is in."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _near(glob: str, names: Sequence[str]) -> str:
    bare = glob.strip("*.")
    near = [name for name in names if bare and bare in name] or difflib.get_close_matches(bare, names, MOST, 0.5)
    return f"; near it are {', '.join(near[:MOST])}" if near else f"; there are {', '.join(names[:MOST])}, ..."
