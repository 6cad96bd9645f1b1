"""Transformers that translate (Vaswani et al. 2017, arXiv 1706.03762): Marian's, of the library transformers."""

from typing import Any

from torch import nn

from lets_runner.extra import missing
from lets_runner.tokens import EOS, PAD

FIXED = {
    "activation_function": "relu",
    "scale_embedding": True,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "forced_eos_token_id": None,
    "decoder_start_token_id": EOS,
}


def marian(
    shape: tuple[int, ...],
    outputs: int,
    *,
    layers: int = 6,
    width: int = 512,
    hidden: int = 1024,
    heads: int = 4,
    dropout: float = 0.3,
    attention_dropout: float = 0.0,
    activation_dropout: float = 0.0,
    share_embeddings: bool = False,
    settings: dict[str, Any] | None = None,
) -> nn.Module:
    """An encoder-decoder, by default the size of fairseq's `transformer_iwslt_de_en`.

    Layers normalise after adding, positions are sinusoidal, and the output is tied to the decoder's embedding; weights
    start as fairseq's do: Xavier's, and embeddings from N(0, 1/width).

    Args:
        shape: (tokens of a sentence at most,).
        outputs: pieces of the vocabulary, which both languages share.
        layers: of the encoder, and as many of the decoder.
        hidden: units of the perceptrons.
        share_embeddings: tie the encoder's embedding too.
        settings: further arguments of `transformers.MarianConfig`.

    Raises:
        ValueError: a setting out of its range; examples that are not sentences.
    """
    rates = {"dropout": dropout, "attention_dropout": attention_dropout, "activation_dropout": activation_dropout}
    _check(shape, rates, layers=layers, width=width, hidden=hidden, heads=heads)
    try:
        from transformers import MarianConfig, MarianMTModel
    except ModuleNotFoundError as error:
        raise missing("transformers", "text") from error
    sizes = {"layers": layers, "ffn_dim": hidden, "attention_heads": heads}
    chosen: dict[str, Any] = {f"{half}_{name}": size for half in ("encoder", "decoder") for name, size in sizes.items()}
    chosen |= {"vocab_size": outputs, "max_position_embeddings": shape[0] + 1, "d_model": width}
    chosen |= {"share_encoder_decoder_embeddings": share_embeddings, **rates, **FIXED, **(settings or {})}
    config = MarianConfig(**chosen)
    config._attn_implementation = "sdpa"
    model = MarianMTModel(config)
    _start(model, width)
    return model


def _check(shape: tuple[int, ...], rates: dict[str, float], **sizes: int) -> None:
    if len(shape) != 1:
        raise ValueError(f"this model takes sentences of tokens, and an example is of the shape {tuple(shape)}")
    if min(sizes.values()) < 1 or sizes["width"] % sizes["heads"]:
        found = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise ValueError(f"{found}: must be at least 1, and heads divide the width")
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"{name}={rate}: must lie in [0, 1)")


def _start(model: Any, width: int) -> None:
    """Draw the weights; the output has the decoder's embedding."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not model.lm_head:
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding) and module.weight.requires_grad:
            nn.init.normal_(module.weight, std=width**-0.5)
            nn.init.zeros_(module.weight[PAD])
