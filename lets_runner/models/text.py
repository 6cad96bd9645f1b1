"""Classifiers of sequences from the library transformers: untrained, or with a pretrained encoder."""

import difflib
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from lets_runner.extra import missing
from lets_runner.models.shape import text_shape
from lets_runner.pretrained import folder

# Of a configuration: what says how many outputs there are, and what is no setting.
OWN = ("architectures", "dtype", "id2label", "label2id", "model_type", "problem_type", "transformers_version")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
FEED_FORWARD = 4  # its width in units of the network's
POSITIONS = 512  # that an untrained network knows, or more where texts are longer
SPARE = 2  # of them that some architectures use up for padding
# What makes an untrained DeBERTa one, as in the configuration of microsoft/deberta-base.
DISENTANGLED = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}


class TextModel(nn.Module):
    """A network of transformers as the tasks take it: inputs by name, each (B, L); output (B, outputs).

    Args:
        takes: the names of those inputs that it knows.
    """

    def __init__(self, network: nn.Module, *, takes: Container[str]):
        super().__init__()
        self.network = network
        self.takes = [name for name in INPUTS if name in takes]

    @property
    def settings_alone(self) -> dict[str, Any]:
        """The settings of `auto_text` that make this network without the files of a pretrained one."""
        network: Any = self.network
        config = (network.get_base_model() if hasattr(network, "peft_config") else network).config
        known = type(config)()
        told = {key: value for key, value in config.to_diff_dict().items() if key not in OWN and hasattr(known, key)}
        return {"pretrained": None, "architecture": config.model_type, "settings": told}

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.network(**{name: inputs[name] for name in self.takes}).logits


def auto_text(
    shape: Any,
    outputs: int,
    *,
    pretrained: str | None = None,
    architecture: str = "deberta",
    depth: int = 2,
    width: int = 128,
    heads: int = 2,
    dropout: float | None = None,
    classifier_dropout: float | None = None,
    settings: dict[str, Any] | None = None,
    lora: dict[str, Any] | None = None,
) -> TextModel:
    """A network that gives `outputs` numbers for a text, or a pair of texts.

    Args:
        shape: of the texts, see `TextShape`.
        pretrained: a folder, or what the Hugging Face Hub calls it: the encoder's weights. None for an untrained one.
        architecture: of an untrained network, as transformers calls it: deberta, deberta-v2, bert, ...
        depth: of an untrained network, in layers; `width`, `heads`: of each.
        dropout: of embeddings, attention and layers; None for the architecture's own, which mostly is 0.1.
        classifier_dropout: before the last layer; None for `dropout`.
        settings: further ones of the configuration of transformers.
        lora: settings of `peft.LoraConfig`, such as {r: 8}: train these low-rank matrices and the classifier alone.

    Raises:
        ValueError: a library is missing, there is no such network, or it does not fit the texts; in one line.
    """
    text, transformers = text_shape(shape), _library()
    said: dict[str, Any] = {"outputs": outputs, "settings": settings or {}}
    said |= {"dropout": dropout, "classifier_dropout": classifier_dropout}
    if pretrained is None:
        sizes = {"num_hidden_layers": depth, "hidden_size": width, "num_attention_heads": heads}
        sizes |= {"intermediate_size": FEED_FORWARD * width, "vocab_size": text.vocabulary}
        sizes |= {"pad_token_id": text.padding, "max_position_embeddings": max(POSITIONS, text.length + SPARE)}
        network = _untrained(transformers, architecture, sizes, said)
    else:
        network = _pretrained(transformers, pretrained, said)
        _check_fits(network.config, text, pretrained)
    _respect_autocast(network)
    takes = signature(network.forward).parameters
    return TextModel(network if lora is None else _with_lora(network, lora), takes=takes)


def _library() -> Any:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise missing("transformers", "text") from error
    return transformers


def _untrained(transformers: Any, name: str, sizes: dict[str, Any], said: dict[str, Any]) -> Any:
    names = transformers.models.auto.modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    if name not in names:
        close = difflib.get_close_matches(name, names)
        hint = f"did you mean {' or '.join(close)}?" if close else f"it has {len(names)}, such as deberta and bert"
        raise ValueError(f"architecture={name}: transformers has no such classifier of texts; {hint}")
    known = transformers.AutoConfig.for_model(name)
    sizes = {key: value for key, value in sizes.items() if hasattr(known, key)}
    kind = DISENTANGLED if name.startswith("deberta") else {}
    config = transformers.AutoConfig.for_model(name, **{**sizes, **kind, **_settings(known, **said)})
    return transformers.AutoModelForSequenceClassification.from_config(config)


def _pretrained(transformers: Any, name: str, said: dict[str, Any]) -> Any:
    try:
        place = folder(name, weights=True)
    except ValueError as error:
        raise ValueError(f"pretrained={error}") from error
    with _quiet(transformers), _in_a_line(f"pretrained={name}: cannot be loaded"):
        config = transformers.AutoConfig.from_pretrained(place, local_files_only=True)
        config.update(_settings(config, **said))
        network, report = transformers.AutoModelForSequenceClassification.from_pretrained(
            place,
            config=config,
            dtype=torch.float32,
            weights_only=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # the last layer of another task; all others are refused below
            output_loading_info=True,
        )
    odd = [*report["missing_keys"], *(each[0] for each in report["mismatched_keys"])]
    encoder = f"{network.base_model_prefix}."
    if lacking := sorted(key for key in odd if key.startswith(encoder) and ".pooler." not in key):
        raise ValueError(f"pretrained={name}: has no weights that fit {lacking[0]}, one of {len(lacking)} such")
    return network


def _settings(
    config: Any, *, outputs: int, dropout: float | None, classifier_dropout: float | None, settings: dict[str, Any]
) -> dict[str, Any]:
    """What the configuration of a network is to be told, by the names that it has for it.

    Raises:
        ValueError: it has none, and would keep a setting unused.
    """
    last = "cls_dropout" if config.model_type.startswith("deberta") else "classifier_dropout"
    said: dict[str, Any] = dict(settings)
    if dropout is not None:
        said |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if classifier_dropout is not None:
        said[last] = classifier_dropout
    for name in said:
        if name != "cls_dropout" and not hasattr(config, name):
            raise ValueError(f"settings.{name}: the configuration of {config.model_type} has no such setting")
    return {"num_labels": outputs, **said}


def _check_fits(config: Any, text: Any, name: str) -> None:
    if text.vocabulary > config.vocab_size:
        raise ValueError(
            f"pretrained={name}: knows {config.vocab_size} tokens, and data.tokenizer has {text.vocabulary}; take its "
            f"own, data.tokenizer={name}"
        )
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and text.length > positions:
        raise ValueError(f"pretrained={name}: takes {positions} tokens at most; take data.max_length={positions}")


def _with_lora(network: Any, settings: dict[str, Any]) -> nn.Module:
    """The network with low-rank matrices beside its own; these, and what is not the encoder, are trained."""
    try:
        import peft
    except ModuleNotFoundError as error:
        raise missing("peft", "lora") from error
    heads = [name for name, part in network.named_children() if name != network.base_model_prefix and _weights(part)]
    config = {"task_type": "SEQ_CLS", "modules_to_save": heads, **settings}
    with _in_a_line("lora"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it asks transformers for what that will call otherwise
        return peft.get_peft_model(network, peft.LoraConfig(**config))


def _weights(part: nn.Module) -> bool:
    return any(True for _ in part.parameters())


def _respect_autocast(network: nn.Module) -> None:
    """DeBERTa adds float32 biases to what autocast has made of 16 bits, and masks the 16-bit scores that come of both
    with float32's least number, which they cannot hold: let it see its biases as autocast would have them.
    """
    from transformers.models.deberta.modeling_deberta import DisentangledSelfAttention

    for module in network.modules():
        if isinstance(module, DisentangledSelfAttention):
            module.transpose_for_scores = partial(_as_autocast, module.transpose_for_scores)  # type: ignore[method-assign]


def _as_autocast(transpose: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    device = values.device.type
    return transpose(values.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else values)


@contextmanager
def _in_a_line(what: str) -> Iterator[None]:
    try:
        yield
    except UnpicklingError as error:
        raise ValueError(f"{what} (a file holds more than weights, and nothing else is unpickled)") from error
    except (ImportError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{what} ({lines[0]})") from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without what it says of a last layer that is new, as it must be."""
    logging = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
