"""From sentences to what a trained model of texts takes; see `data/transforms.py`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lets_runner.data.text.bpe import Vocabulary
from lets_runner.data.text.tokenizer import Tokenizer, library
from lets_runner.data.text.tokens import padded, rounded
from lets_runner.data.transforms import Transform
from lets_runner.tokens import EOS, PAD


@dataclass(frozen=True)
class TextShape:
    """What a model must know of an example: at most `length` ids below `vocabulary`; `padding` says nothing."""

    length: int
    vocabulary: int
    padding: int


@dataclass(frozen=True, kw_only=True)
class TextTransform(Transform):
    """Texts, or pairs of texts, to inputs by name, each (B, L): `input_ids`, `attention_mask`, `token_type_ids`.

    Takes a string, a pair as a tuple of two, or a list of either.

    Args:
        tokenizer: as `tokenizers.Tokenizer.to_str` writes it.
        padding: the id that pads.
        vocabulary: ids that the model knows.
        max_length: in tokens; what is longer is cut.
        fixed: whether all batches are as wide as that.
        pairs: whether an example is a pair of texts.
    """

    kind = "texts"
    tokenizer: str
    padding: int
    vocabulary: int
    max_length: int
    fixed: bool
    pairs: bool

    @property
    def input_shape(self) -> TextShape:
        return TextShape(self.max_length, self.vocabulary, self.padding)

    @cached_property
    def known(self) -> Tokenizer:
        """What encodes."""
        return Tokenizer(library().Tokenizer.from_str(self.tokenizer), self.padding)

    def __call__(self, examples: Any, *, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        several = list(examples) if isinstance(examples, list) else [examples]
        wanted = tuple if self.pairs else str
        if not several or not all(isinstance(each, wanted) for each in several):
            what = "pairs of texts, as tuples" if self.pairs else "texts"
            raise ValueError(f"the model takes {what}, and not {type(several[0] if several else several).__name__}")
        first, second = zip(*several, strict=True) if self.pairs else (several, None)
        ids, segments = self.known.encode(first, second, max_length=self.max_length)
        width = self.max_length if self.fixed else min(rounded(max(map(len, ids))), self.max_length)
        tokens = padded(ids, segments, torch.zeros(len(ids)), padding=self.padding, width=width)
        return tokens.to(torch.device(device)).inputs(width)


@dataclass(frozen=True)
class Sources:
    """Sentences to translate: int64 (B, S), PAD behind them; `text` makes words of what is found."""

    source: Tensor
    text: Callable[[Sequence[int]], str]


@dataclass(frozen=True, kw_only=True)
class SentenceTransform(Transform):
    """Sentences in words to `Sources`. Takes a string, or a list of them.

    Args:
        vocabulary: as `Vocabulary.plain` writes it.
        max_length: tokens of a sentence with its end.
    """

    kind = "sentences"
    vocabulary: tuple[Any, ...]
    max_length: int

    @property
    def input_shape(self) -> tuple[int]:
        return (self.max_length,)

    @cached_property
    def known(self) -> Vocabulary:
        """What encodes and decodes."""
        return Vocabulary.of(self.vocabulary)

    def __call__(self, examples: Any, *, device: torch.device | str = "cpu") -> Sources:
        lines = [examples] if isinstance(examples, str) else list(examples)
        rows = [np.append(row, EOS) for row in self.known.encode(lines)]
        if (longest := max(map(len, rows), default=1)) > self.max_length:
            raise ValueError(f"a sentence has {longest} tokens, its end included; the model takes {self.max_length}")
        source = np.full((len(rows), longest), PAD, dtype=np.int64)
        for place, row in enumerate(rows):
            source[place, : len(row)] = row
        return Sources(torch.from_numpy(source).to(device), self.known.text)
