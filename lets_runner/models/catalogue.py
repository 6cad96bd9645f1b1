"""Every image classifier of torchvision and of timm, by its name: untrained, or with weights from a file or the net."""

import difflib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lets_runner.extra import missing
from lets_runner.models.shape import image_shape
from lets_runner.pretrained import weights_file
from lets_runner.weights import Weights, fit, read_weights

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # heads of torchvision's that are not built here
# Settings that this module has under another name, and the remedy.
ELSEWHERE = {
    "pretrained": "say it as model.pretrained=true, or a file",
    "weights": "say it as model.pretrained=true, or a file",
    "checkpoint_path": "give the file as model.pretrained",
    "num_classes": "the data have so many classes as they have",
}


def torchvision_model(
    shape: tuple[int, ...],
    outputs: int,
    *,
    name: str,
    pretrained: bool | str | None = False,
    settings: dict[str, Any] | None = None,
    weights: bool = True,
) -> nn.Module:
    """The classifier that torchvision calls `name`: input (B, *shape), output (B, outputs).

    Args:
        pretrained: True for the weights that torchvision has for it, from the net or its cache, or a file of weights. A
            head for other classes is left as it is, untrained.
        settings: further arguments of its constructor.
        weights: False where others are loaded later: those of `pretrained` are not looked for.

    Raises:
        ValueError: there is no such network, or it does not fit; there are no weights, or not its own; in one line.
    """
    from torchvision import models

    _check_settings(settings)
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
    model = _tried(lambda: models.get_model(name, weights=None, num_classes=outputs, **chosen), name, shape, outputs)
    if pretrained and weights:
        found = _found(pretrained, name, lambda: models.get_model_weights(name).DEFAULT.get_state_dict(progress=False))
        _load(model, {key: w for key, w in found.items() if not key.startswith(AUXILIARY)}, pretrained, outputs)
    return model


def timm_model(
    shape: tuple[int, ...],
    outputs: int,
    *,
    name: str,
    pretrained: bool | str | None = False,
    settings: dict[str, Any] | None = None,
    weights: bool = True,
) -> nn.Module:
    """The classifier that timm calls `name`: input (B, *shape), output (B, outputs). Needs the extra `timm`.

    Args:
        pretrained: as for `torchvision_model`; files of other sizes of images, or of other channels, are adapted as
            timm does it.
        settings: further arguments of `timm.create_model`.
        weights: as for `torchvision_model`.

    Raises:
        ValueError: as for `torchvision_model`.
    """
    _check_settings(settings)
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
    model = _tried(
        lambda: timm.create_model(name, pretrained=False, num_classes=outputs, **chosen), name, shape, outputs
    )
    if pretrained and weights:
        found = _found(pretrained, name, lambda: read_weights(weights_file(_hub_name(known))))
        _load(model, _adapted(model, found, known, chosen["in_chans"]), pretrained, outputs)
    return model


def _hub_name(known: Any) -> str:
    if not (known and known.hf_hub_id) or (known.hf_hub_filename and known.custom_load):
        raise ValueError("timm names none that are read here")
    return str(known.hf_hub_id)


def _adapted(model: nn.Module, found: Weights, known: Any, channels: int) -> Weights:
    """What timm makes of weights for images of another size, or of another version of its own."""
    from timm.models import adapt_input_conv

    filtered = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        found = dict(filtered(found, model)) if filtered else found
        for conv in [known.first_conv] if known and isinstance(known.first_conv, str) else []:
            first = found.get(f"{conv}.weight")
            if first is not None and first.ndim == 4 and first.shape[1] != channels:
                found[f"{conv}.weight"] = adapt_input_conv(channels, first)
    except (LookupError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return found  # nothing that it knows: `fit` says what is wrong
    return found


def _found(pretrained: bool | str, name: str, fetch: Callable[[], Mapping[str, Tensor]]) -> Weights:
    """The weights of a file, or those that are fetched."""
    if isinstance(pretrained, str):
        try:
            return read_weights(Path(pretrained).expanduser())
        except ValueError as error:
            raise ValueError(f"pretrained={pretrained}: {error}") from error
    try:
        return dict(fetch())
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"pretrained=True: the weights of {name} cannot be had ({reason}); put them into a file, and give that, as "
            "in model.pretrained=weights.safetensors"
        ) from error


def _load(model: nn.Module, found: Weights, pretrained: bool | str, outputs: int) -> None:
    """Put them in, and leave a word about it for whoever reports."""
    try:
        said = fit(model, found, outputs=outputs)
        model.beginning = "; ".join(["begins with pretrained weights", *([said] if said else [])])  # type: ignore[assignment]
    except ValueError as error:
        raise ValueError(f"pretrained={pretrained}: {error}") from error


def _check_settings(settings: Mapping[str, Any] | None) -> None:
    for name in settings or {}:
        if name in ELSEWHERE:
            raise ValueError(f"settings.{name}: {ELSEWHERE[name]}")


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
