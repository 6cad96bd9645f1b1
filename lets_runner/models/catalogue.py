"""Every image classifier of torchvision and of timm, by its name, untrained."""

import difflib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lets_runner.extra import missing
from lets_runner.models.shape import image_shape


def torchvision_model(
    shape: tuple[int, ...], outputs: int, *, name: str, settings: dict[str, Any] | None = None
) -> nn.Module:
    """The classifier that torchvision calls `name`: input (B, *shape), output (B, outputs).

    Args:
        settings: further arguments of its constructor.
    """
    from torchvision import models

    _check_name(name, models.list_models(module=models), "torchvision")
    channels, *size = image_shape(shape)
    if channels != 3:
        raise ValueError(f"name={name}: torchvision's networks take 3 channels, the images have {channels}")
    chosen: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # In training, auxiliary classifiers would answer beside the last one. (Without `init_weights` they warn.)
        chosen = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        chosen = {"image_size": size[0]}
    elif name.startswith("maxvit_"):
        chosen = {"input_size": tuple(size)}
    chosen |= settings or {}
    return _tried(lambda: models.get_model(name, weights=None, num_classes=outputs, **chosen), name, shape, outputs)


def timm_model(shape: tuple[int, ...], outputs: int, *, name: str, settings: dict[str, Any] | None = None) -> nn.Module:
    """The classifier that timm calls `name`: input (B, *shape), output (B, outputs). Needs the extra `timm`.

    Args:
        settings: further arguments of `timm.create_model`.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ValueError(f"name={name}: {missing('timm', 'timm')}") from error

    _check_name(name, timm.list_models(), "timm")
    chosen: dict[str, Any] = {"in_chans": image_shape(shape)[0]}
    known = timm.get_pretrained_cfg(name)
    if known and known.fixed_input_size:  # built for one size, as vision transformers are; the others know no img_size
        chosen["img_size"] = shape[1:]
    chosen |= settings or {}
    return _tried(
        lambda: timm.create_model(name, pretrained=False, num_classes=outputs, **chosen), name, shape, outputs
    )


def _check_name(name: str, names: list[str], library: str) -> None:
    if name not in names:
        close = difflib.get_close_matches(name, names)
        hint = f"did you mean {' or '.join(close)}?" if close else f"it has {len(names)}, such as {names[0]}"
        raise ValueError(f"name={name}: {library} has no such classifier; {hint}")


def _tried(build: Callable[[], nn.Module], name: str, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The network, once two blank images have gone through it as in training, without a trace in it."""
    try:
        model = build()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            buffers = {key: buffer.clone() for key, buffer in model.named_buffers()}
            out = functional_call(model, buffers, (torch.zeros(2, *shape),))
    except (AssertionError, LookupError, RuntimeError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"name={name}: fails on images of {shape[1]}×{shape[2]} pixels: {reason}") from error
    if not isinstance(out, Tensor) or out.shape != (2, outputs):
        raise ValueError(f"name={name}: is no plain classifier: its output is not of the shape (B, {outputs})")
    return model
