"""Sentences and their translations, line by line in two files, as in IWSLT'14 (Cettolo et al. 2014)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from lets_runner.data.splits import Data, Splits
from lets_runner.data.stream import WHOLE, Share
from lets_runner.data.text.bpe import Vocabulary, learned, read_codes, read_tokens
from lets_runner.data.text.lines import read_lines, read_pair
from lets_runner.data.text.loader import MOST_AT_ONCE, PairLoader, Pairs, Sentences
from lets_runner.data.text.transforms import SentenceTransform
from lets_runner.data.transforms import Transform
from lets_runner.tokens import EOS

CODES = ("code", "codes", "bpe_codes*", "bpe.codes*")  # names of files, where they are not said
VOCABULARIES = ("vocab", "vocab.txt", "vocabulary", "dict.txt")
AUTO = "auto"
CUT = "@@ "  # what subword-nmt puts behind a piece within a word


class ParallelText(Data):
    """Pairs of sentences in words, for `task=translation`; one vocabulary of pieces serves both languages.

    The files are read at once, for a model depends on the vocabulary.

    Args:
        root: folder of all files: `<train>.<source>`, `<train>.<target>` and so on.
        source, target: suffixes of the two languages.
        train, valid, test: names of the three parts.
        max_tokens: of a batch, over all processes: sentences × the longest of source and target.
        codes: merges of byte-pair encoding in a file of subword-nmt's; "auto" for the one in `root`, where there is
            one; None to learn them from the training text.
        vocabulary: pieces in a file, as `subword-nmt get-vocab` writes it; "auto" as for codes; None for all pieces of
            the training text.
        merges: how many to learn, where they are learned.
        max_length: tokens of a sentence with its end; models have as many positions.

    Raises:
        OSError: a file is not there.
        ValueError: a setting is out of its range, or a file not what it should be; in one line.
    """

    target_kind = "sentences"
    varying = "batches of sentences differ in length, and a graph is of one shape"

    def __init__(
        self,
        root: str,
        *,
        source: str = "de",
        target: str = "en",
        train: str = "train",
        valid: str = "valid",
        test: str = "test",
        max_tokens: int = 4096,
        codes: str | None = AUTO,
        vocabulary: str | None = AUTO,
        merges: int = 10_000,
        max_length: int = 1024,
    ):
        for name, value in {"max_tokens": max_tokens, "merges": merges, "max_length": max_length}.items():
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        self.root, self.languages, self.max_tokens = Path(root).expanduser(), (source, target), max_tokens
        self.shape = (max_length,)
        texts = {part: self._text(stem) for part, stem in {"train": train, "val": valid, "test": test}.items()}
        both = [line for lines in texts["train"] for line in lines]
        self.vocabulary = Vocabulary(self._merges(codes, merges, both), both, self._tokens(vocabulary))
        self._splits = Splits(**{part: self._pairs(*lines) for part, lines in texts.items()})
        self._check_lengths(max_length)
        self.val_fraction = len(self._splits.val) / (len(self._splits.train) + len(self._splits.val))

    @property
    def outputs(self) -> int:
        """Pieces of the vocabulary."""
        return len(self.vocabulary)

    def splits(self) -> Splits:
        return self._splits

    @property
    def transform(self) -> SentenceTransform:
        vocabulary = self.vocabulary.plain()
        return SentenceTransform(outputs=self.outputs, vocabulary=vocabulary, max_length=self.shape[0])

    def adopt(self, transform: Transform) -> None:
        if not isinstance(transform, SentenceTransform):
            raise ValueError(f"are sentences, and the model takes {transform.kind}")
        if transform.known.plain() != self.vocabulary.plain():
            raise ValueError(
                "the vocabulary of these sentences is not the model's: give data.codes and data.vocabulary, the files "
                "that it was trained with, and the same data.root/train"
            )

    def loader(
        self,
        examples: Pairs,
        *,
        batch_size: int,
        seed: tuple[int, ...],
        device: torch.device,
        augmented: bool,
        channels_last: bool = False,
        share: Share = WHOLE,
    ) -> PairLoader:
        if not augmented:  # it is measured, and never drawn from
            batch_size = MOST_AT_ONCE
        settings: Any = {"seed": seed, "device": device, "share": share}
        return PairLoader(examples, max_tokens=self.max_tokens, batch_size=batch_size, **settings)

    def _text(self, stem: str) -> tuple[list[str], list[str]]:
        first, second = (self.root / f"{stem}.{language}" for language in self.languages)
        for path in (first, second):
            if not path.exists():
                raise FileNotFoundError(
                    f"root={self.root}: there is no {path.name}; put the sentences of both languages there, line by "
                    "line"
                )
        lines = read_pair((first, second))
        for path, own in zip((first, second), lines, strict=True):
            if sum(CUT in line for line in own) > len(own) / 10:
                raise ValueError(
                    f"{path}: its words are in pieces already ({CUT.strip()}); give files in words, which fairseq's "
                    "prepare-iwslt14.sh leaves in its folder tmp, with data.codes=../code"
                )
        return lines

    def _merges(self, codes: str | None, count: int, lines: list[str]) -> list[tuple[str, str]]:
        path = self._file("codes", codes, CODES)
        return learned(lines, count) if path is None else read_codes(path, read_lines(path))

    def _tokens(self, vocabulary: str | None) -> list[str] | None:
        path = self._file("vocabulary", vocabulary, VOCABULARIES)
        return None if path is None else read_tokens(path, read_lines(path))

    def _file(self, setting: str, name: str | None, usual: tuple[str, ...]) -> Path | None:
        """What a setting names, if anything."""
        if name is None:
            return None
        if name != AUTO:
            if not (path := self.root / Path(name).expanduser()).exists():
                raise FileNotFoundError(f"{setting}={name}: there is no such file in {self.root}")
            return path
        found = sorted({path for pattern in usual for path in self.root.glob(pattern)})
        if len(found) > 1:
            raise ValueError(f"{setting}=auto: {' and '.join(path.name for path in found)} are there; name one")
        return found[0] if found else None

    def _pairs(self, source: list[str], target: list[str]) -> Pairs:
        end = np.array([EOS])
        first, second = (
            Sentences.of([np.concatenate([line, end]) for line in self.vocabulary.encode(lines)])
            for lines in (source, target)
        )
        return Pairs(first.tokens, first.ends, second.tokens, second.ends, target, self.vocabulary.text)

    def _check_lengths(self, most: int) -> None:
        for part, pairs in vars(self._splits).items():
            for language, sentences in zip(self.languages, (pairs.source, pairs.target), strict=True):
                if (longest := sentences.lengths.max()) > most:
                    line = int(sentences.lengths.argmax()) + 1
                    raise ValueError(
                        f"max_length={most}: line {line} of the {part} set in {language} has {longest} tokens; allow "
                        "as many, or leave it out"
                    )
