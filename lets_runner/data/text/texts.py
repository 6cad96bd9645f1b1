"""Data sets of texts, or pairs of texts: a subclass says how to read them."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor

from lets_runner.data.splits import SplitData, Splits
from lets_runner.data.stream import WHOLE, Share
from lets_runner.data.text.tokenizer import BYTES, SPECIAL, Tokenizer, known, learned
from lets_runner.data.text.tokens import TokenLoader, Tokens, padded, rounded
from lets_runner.data.text.transforms import TextShape, TextTransform
from lets_runner.data.transforms import Transform

VARYING = "batches are as long as their longest text; data.pad=max_length makes them equal"


@dataclass(frozen=True)
class Texts:
    """Texts, or the first and second of pairs, and their targets."""

    first: list[str]
    second: list[str] | None
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Tensor) -> "Texts":
        first, second = (None if texts is None else [texts[i] for i in index.tolist()] for texts in self._columns)
        assert first is not None
        return Texts(first, second, self.targets[index])

    @property
    def _columns(self) -> tuple[list[str], list[str] | None]:
        return self.first, self.second

    def every(self) -> Iterable[str]:
        """All of them, in order."""
        return chain(self.first, self.second or ())


class TextData(SplitData):
    """A data set whose `read` gives `Texts`, and whose parts are `Tokens`.

    Args:
        tokenizer: a file of BERT's WordPiece vocabulary (`vocab.txt`), or a pretrained model's folder or hub id; None
            to learn one from the training part, the same every time.
        vocabulary_size: of a tokenizer that is learned, at most.
        lowercase: whether it, or that of a vocabulary file, takes capitals for small letters.
        max_length: in tokens; what is longer is cut, in pairs the longer text first.
        pad: batches to the "longest" sequence in each, or all to "max_length", which CUDA graphs want.
        settings: see `SplitData`.

    Raises:
        ValueError, OSError: a setting out of its range, or no such tokenizer.
    """

    class_names: tuple[str, ...] | None = None

    def __init__(
        self,
        *,
        tokenizer: str | None = None,
        vocabulary_size: int = 8000,
        lowercase: bool = True,
        max_length: int = 128,
        pad: Literal["longest", "max_length"] = "longest",
        **settings: Any,
    ):
        super().__init__(**settings)
        if vocabulary_size < BYTES + len(SPECIAL):
            raise ValueError(f"vocabulary_size={vocabulary_size}: must be at least {BYTES + len(SPECIAL)}")
        if max_length < 8:
            raise ValueError(f"max_length={max_length}: must be at least 8")
        if pad not in ("longest", "max_length"):
            raise ValueError(f"pad={pad}: must be longest or max_length")
        self.vocabulary_size, self.lowercase, self.max_length, self.pad = vocabulary_size, lowercase, max_length, pad
        self.tokenizer = None if tokenizer is None else known(tokenizer, lowercase=lowercase)
        size = (vocabulary_size, 0) if self.tokenizer is None else (len(self.tokenizer), self.tokenizer.padding)
        self.shape = TextShape(max_length, *size)
        self.pairs: bool | None = None  # whether an example is two texts; known once they have been read
        self.varying = VARYING if pad == "longest" else None

    def splits(self) -> Splits:
        texts = super().splits()
        if self.tokenizer is None:
            self.tokenizer = learned(texts.train.every(), size=self.vocabulary_size, lowercase=self.lowercase)
        self.pairs = texts.train.second is not None
        return Splits(*(self._tokens(self.tokenizer, part) for part in (texts.train, texts.val, texts.test)))

    @property
    def transform(self) -> TextTransform | None:
        if self.tokenizer is None or self.pairs is None:
            return None
        form: Any = {"padding": self.tokenizer.padding, "max_length": self.max_length, "pairs": self.pairs}
        form |= {"tokenizer": self.tokenizer.backend.to_str(), "vocabulary": self.shape.vocabulary}
        form |= {"fixed": self.pad == "max_length"}
        return TextTransform(outputs=self.outputs, class_names=self.class_names, **form)

    def adopt(self, transform: Transform) -> None:
        if not isinstance(transform, TextTransform):
            raise ValueError(f"are texts, and the model takes {transform.kind}")
        if transform.outputs != self.outputs or transform.class_names != self.class_names:
            raise ValueError(f"targets are {self.class_names or self.outputs}, and the model gives others")
        self.tokenizer, self.shape, self.max_length = transform.known, transform.input_shape, transform.max_length

    def _tokens(self, tokenizer: Tokenizer, texts: Texts) -> Tokens:
        ids, segments = tokenizer.encode(texts.first, texts.second, max_length=self.max_length)
        longest = self.max_length if self.pad == "max_length" else rounded(max(map(len, ids), default=0))
        form = {"padding": tokenizer.padding, "width": min(longest, self.max_length)}
        return padded(ids, segments, texts.targets, **form)

    def loader(
        self,
        examples: Tokens,
        *,
        batch_size: int,
        seed: tuple[int, ...],
        device: torch.device,
        augmented: bool,
        channels_last: bool = False,
        share: Share = WHOLE,
    ) -> TokenLoader:
        form: Any = {"batch_size": batch_size, "seed": seed, "device": device, "share": share}
        return TokenLoader(examples, fixed=self.pad == "max_length", **form)
