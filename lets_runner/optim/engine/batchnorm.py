"""Keep normalisation layers honest while a batch passes through a network more than once.

Spectral norms are among them: their estimate of a singular vector takes a step with every forward pass.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm


def frozen_statistics(model: nn.Module | None) -> AbstractContextManager[None]:
    """Normalise by the batch, as in training, and leave running statistics and their counters as they are.

    Without `track_running_stats` a batch-norm layer in training mode behaves just so, and in evaluation mode it
    still reads its running statistics. An instance-norm layer in training mode must not see them at all. May be
    nested; what was there before comes back, also after an exception.
    """
    return frozen(normalisers(model))


def normalisers(model: nn.Module | None) -> list[nn.Module]:
    """The layers of `model` that may keep running statistics."""
    kinds = (_BatchNorm, _InstanceNorm, _SpectralNorm)
    return [] if model is None else [module for module in model.modules() if isinstance(module, kinds)]


def check_norms(model: nn.Module | None) -> None:
    """Raise ValueError if `model` has a normalisation whose passes cannot be kept from adding up."""
    for name, module in [] if model is None else model.named_modules():
        if any(isinstance(hook, SpectralNorm) for hook in module._forward_pre_hooks.values()):
            raise ValueError(
                f"{name or 'the model'} has torch.nn.utils.spectral_norm, which counts every pass of a step: take "
                "torch.nn.utils.parametrizations.spectral_norm"
            )


@contextmanager
def frozen(layers: Sequence[nn.Module]) -> Iterator[None]:
    """What `frozen_statistics` does, for layers that `normalisers` found."""
    before: list[tuple[nn.Module, str, Any]] = []

    def put(module: nn.Module, name: str, value: Any) -> None:
        before.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    for layer in layers:
        if isinstance(layer, _BatchNorm):
            put(layer, "track_running_stats", False)
        elif isinstance(layer, _SpectralNorm):
            put(layer, "n_power_iterations", 0)
        elif layer.training:
            put(layer, "running_mean", None)
            put(layer, "running_var", None)
    try:
        yield
    finally:
        for module, name, value in reversed(before):
            setattr(module, name, value)


def statistics(layers: Sequence[nn.Module]) -> list[Tensor]:
    """The running statistics and counters of `layers`: the tensors themselves, not copies."""
    return [buffer for layer in layers for buffer in layer.buffers(recurse=False)]
