"""Base optimizers beside those of torch, and learning rates that fall from layer to layer."""

import re
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

# Up to what one of many like it is called: layer1.0, features.1.2, encoder_layer_3.
NUMBERED = re.compile(r"(?:[^.]+\.)*?(?:(?:\d+\.)+|[^.]+_\d+\.)")


def adamw(
    params: Iterable[Tensor] | Iterable[dict[str, Any]],
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    amsgrad: bool = False,
    fused: bool | None = None,
) -> AdamW:
    """AdamW as transformers are trained: matrices decay; norms and biases, of fewer than two dimensions, do not.

    It is torch's, with two groups of parameters for each one that it gets. ρ, ε̂ and all norms are those of all groups
    together, as ever.
    """
    given: list[Any] = list(params)
    groups: list[dict[str, Any]] = []
    for group in given if given and isinstance(given[0], dict) else [{"params": given}]:
        matrices = [p for p in group["params"] if p.ndim >= 2]
        others = [p for p in group["params"] if p.ndim < 2]
        groups.append({**group, "params": matrices, "weight_decay": weight_decay})
        groups.append({**group, "params": others, "weight_decay": 0.0})
    groups = [group for group in groups if group["params"]]
    return AdamW(groups, lr=lr, betas=betas, eps=eps, amsgrad=amsgrad, fused=fused)


def by_layer(model: nn.Module, *, layer_decay: float | None = None) -> list[Any]:
    """What is trained, for an optimizer: a list of parameters, or with a `layer_decay` a group a layer, from the top.

    A group's `depth`, how many layers lie above it, is for `slow_down`.

    Raises:
        ValueError: a decay out of its range.
    """
    if layer_decay is None:
        return [param for param in model.parameters() if param.requires_grad]
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay={layer_decay}: must lie in (0, 1], or be null")
    found = layers(model)
    groups: list[dict[str, Any]] = [{"params": params, "depth": depth} for depth, params in enumerate(reversed(found))]
    trained = [{**group, "params": [p for p in group["params"] if p.requires_grad]} for group in groups]
    return [group for group in trained if group["params"]]


def slow_down(optimizer: Optimizer, layer_decay: float | None) -> None:
    """Multiply the learning rate of every group that has a `depth` by `layer_decay` to the power of it.

    As in BEiT (Bao et al. 2022, arXiv 2106.08254) and timm's `param_groups_layer_decay`.
    """
    for group in optimizer.param_groups:
        depth = group.pop("depth", 0)
        if layer_decay is not None:
            group["lr"] = group["lr"] * layer_decay**depth


def layers(model: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each layer, from the inputs to the head.

    A network of timm says itself what its layers are. In others a layer is what has a number in its name (`blocks.3`,
    `layer1.0`, `encoder_layer_3`), and what was registered after it without one (a last norm); what comes before the
    first is one layer, and so is a last module without a number, the head.
    """
    named = dict(model.named_parameters())
    number = _of_timm(model) if hasattr(model, "group_matcher") else _by_name(list(named))
    found: dict[int, list[nn.Parameter]] = {}
    for name, param in named.items():
        found.setdefault(number[name], []).append(param)
    return [found[place] for place in sorted(found)]


def _of_timm(model: Any) -> dict[str, int]:
    from timm.models import group_parameters

    return group_parameters(model, model.group_matcher(coarse=False), reverse=True)


def _by_name(names: list[str]) -> dict[str, int]:
    """The number of the layer of each, in the order in which they were registered."""
    modules = [name.rpartition(".")[0] for name in names]
    blocks: list[str] = []  # of each, the layer that it is in
    for module in modules:
        block = _block(module) or ("the head" if module == modules[-1] else blocks[-1] if blocks else "the inputs")
        blocks.append(block)
    order = {block: place for place, block in enumerate(dict.fromkeys(blocks))}
    return {name: order[block] for name, block in zip(names, blocks, strict=True)}


def _block(module: str) -> str | None:
    """The name up to its first number, or the last of several right after each other; None without one."""
    match = NUMBERED.match(f"{module}.")
    return match[0] if match else None
