"""Byte-pair encoding: words as pieces that are frequent in the training text.

Sennrich, Haddow, Birch, *Neural Machine Translation of Rare Words with Subword Units*, ACL 2016 (arXiv 1508.07909).
Codes are as subword-nmt writes them: a line a merge, in their order, and `</w>` behind the last character of a word.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lets_runner.data.text.tokenizer import library
from lets_runner.tokens import SPECIAL, UNKNOWN

Merge = tuple[str, str]
END = "</w>"
HEADER = "#version: 0.2"
AT_ONCE = 10_000  # lines that are encoded together


class Vocabulary:
    """Pieces of words, by number, after the special ones.

    Args:
        merges: what byte-pair encoding joins, in this order.
        lines: the training text, in words. Its characters are the only ones that are known.
        tokens: the pieces to know; None for all that the training text has, the most frequent first.
    """

    def __init__(self, merges: Sequence[Merge], lines: Sequence[str], tokens: Sequence[str] | None = None):
        self._tokenizer, pieces = _tokenizer(merges, lines)
        self._number = np.arange(len(pieces))  # of a piece, from the tokenizer's number
        if tokens is None:
            counts = np.bincount(np.concatenate(self.encode(lines)), minlength=len(pieces))
            known = sorted(np.flatnonzero(counts).tolist(), key=lambda n: (-counts[n], pieces[n]))
            tokens = [pieces[number] for number in known if number != UNKNOWN]
        self.tokens = (*SPECIAL, *tokens)
        numbers = {token: number for number, token in enumerate(self.tokens)}
        self._number = np.array([numbers.get(piece, UNKNOWN) for piece in pieces])

    def plain(self) -> tuple[str, list[int], list[str]]:
        """All of it as JSON has it; `of` undoes this."""
        return self._tokenizer.to_str(), self._number.tolist(), list(self.tokens)

    @classmethod
    def of(cls, plain: Sequence[Any]) -> "Vocabulary":
        tokenizer, number, tokens = plain
        made = cls.__new__(cls)
        made._tokenizer = library().Tokenizer.from_str(tokenizer)
        made._number, made.tokens = np.array(number), tuple(tokens)
        return made

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, lines: Sequence[str]) -> list[np.ndarray]:
        """The numbers of every line's pieces."""
        some = [lines[start : start + AT_ONCE] for start in range(0, len(lines), AT_ONCE)]
        return [self._number[found.ids] for part in some for found in self._tokenizer.encode_batch(part)]

    def text(self, numbers: Iterable[int]) -> str:
        """The words that pieces make; special ones, but for unknown ones, are left out."""
        pieces = [self.tokens[number] for number in numbers if number >= UNKNOWN]
        return "".join(pieces).replace(SPECIAL[UNKNOWN], f"{SPECIAL[UNKNOWN]}{END}").replace(END, " ").strip()


def learned(lines: Sequence[str], count: int) -> list[Merge]:
    """The `count` first merges of a text, or as many as there are: a function of the text alone."""
    tokenizers = library()
    words = {word for line in lines for word in line.split()}
    # Ties between pairs go by their numbers, and those of last characters would change from start to start.
    ends = [f"{character}{END}" for character in sorted({word[-1] for word in words})]
    alphabet = {character for word in words for character in word}
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=len(ends) + len(alphabet) + count,
        special_tokens=ends,
        end_of_word_suffix=END,
        show_progress=False,
    )
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix=END))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(lines, trainer)
    return [(first, second) for first, second in json.loads(tokenizer.to_str())["model"]["merges"]]


def read_codes(path: Path, lines: Sequence[str]) -> list[Merge]:
    """The merges of a file's lines.

    Raises:
        ValueError: it is none of subword-nmt's, in one line.
    """
    if not lines or lines[0].strip() != HEADER:
        raise ValueError(f"{path}: must begin with the line {HEADER!r}, as subword-nmt writes codes")
    merges = []
    for number, line in enumerate(lines[1:], 2):
        pieces = line.strip(" ").split(" ")
        if len(pieces) != 2 or not all(pieces):
            raise ValueError(f"{path}, line {number}: {line[:40]!r} is not two pieces to join")
        merges.append((pieces[0], pieces[1]))
    return merges


def read_tokens(path: Path, lines: Sequence[str]) -> list[str]:
    """The pieces of a file that has one a line, and a number behind it: a piece within a word ends with `@@`.

    subword-nmt's vocabularies and fairseq's dictionaries have this form.

    Raises:
        ValueError: it has no such form, in one line.
    """
    tokens = []
    for number, line in enumerate(lines, 1):
        piece, space, count = line.strip(" ").rpartition(" ")
        if not piece or not space or not count.isdigit():
            raise ValueError(f"{path}, line {number}: {line[:40]!r} is not a piece and how often it occurs")
        tokens.append(piece.removesuffix("@@") if piece.endswith("@@") else f"{piece}{END}")
    if len({*tokens}) < len(tokens):
        raise ValueError(f"{path}: has a piece twice")
    return tokens


def _tokenizer(merges: Sequence[Merge], lines: Iterable[str]) -> tuple[Any, list[str]]:
    """What cuts words, and its pieces by number, the special ones first."""
    tokenizers = library()
    words = {word for line in lines for word in line.split()}
    characters = {character for word in words for character in word[:-1]}
    ends = {f"{word[-1]}{END}" for word in words}
    joined = {piece for first, second in merges for piece in (first, second, first + second)}
    pieces = [*SPECIAL, *sorted((characters | ends | joined) - {*SPECIAL})]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocab={piece: number for number, piece in enumerate(pieces)},
            merges=list(merges),
            unk_token=SPECIAL[UNKNOWN],
            end_of_word_suffix=END,
        )
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return tokenizer, pieces
