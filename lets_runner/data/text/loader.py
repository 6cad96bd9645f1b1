"""Batches of sentences by tokens: short sentences many at a time, long ones few."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lets_runner.data.stream import WHOLE, Share, Stream
from lets_runner.tokens import IGNORED, PAD

MOST_AT_ONCE = 256  # sentences of a batch that is measured: of short ones, beam search makes several times as many


@dataclass(frozen=True)
class Sentences:
    """Sentences of one length after the other, every one with its end: row i is tokens[ends[i-1]:ends[i]]."""

    tokens: np.ndarray  # int32
    ends: np.ndarray  # int64

    @classmethod
    def of(cls, sentences: Sequence[np.ndarray]) -> "Sentences":
        return cls(np.concatenate(sentences).astype(np.int32), np.cumsum([len(sentence) for sentence in sentences]))

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.ends, prepend=0)

    def padded(self, index: np.ndarray, width: int, filler: int) -> np.ndarray:
        """The sentences of `index` as rows of `width`, int64, `filler` behind them."""
        rows = np.full((len(index), width), filler, dtype=np.int64)
        for row, number in zip(rows, index, strict=True):
            sentence = self.tokens[(self.ends[number - 1] if number else 0) : self.ends[number]]
            row[: len(sentence)] = sentence
        return rows


@dataclass(frozen=True)
class Pairs:
    """Sentences and their translations; `references` are the translations as text, and `text` makes text of tokens."""

    source_tokens: np.ndarray
    source_ends: np.ndarray
    target_tokens: np.ndarray
    target_ends: np.ndarray
    references: Sequence[str]
    text: Callable[[Sequence[int]], str]

    def __len__(self) -> int:
        return len(self.references)

    @property
    def source(self) -> Sentences:
        return Sentences(self.source_tokens, self.source_ends)

    @property
    def target(self) -> Sentences:
        return Sentences(self.target_tokens, self.target_ends)


@dataclass(frozen=True)
class PairBatch:
    """Pairs of sentences on the training device, and what the host knows of them.

    Args:
        source: int64 (B, S), PAD behind the sentences.
        target: int64 (B, T), IGNORED behind the sentences.
        lengths: tokens of every target.
        mean_tokens: targets of the whole batch, over all processes, divided by their number.
        numbers: of the pairs, in their file.
        references, text: as in `Pairs`.
    """

    source: Tensor
    target: Tensor
    lengths: tuple[int, ...]
    mean_tokens: float
    numbers: tuple[int, ...]
    references: tuple[str, ...]
    text: Callable[[Sequence[int]], str]

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """That are to be predicted."""
        return sum(self.lengths)

    def rows(self, rows: slice) -> "PairBatch":
        return PairBatch(
            self.source[rows],
            self.target[rows],
            self.lengths[rows],
            self.mean_tokens,
            self.numbers[rows],
            self.references[rows],
            self.text,
        )


class PairLoader:
    """Batches of pairs of about one length, cut once and shuffled with every pass over them.

    Args:
        pairs: what to draw from.
        max_tokens: of a batch, over all processes: sentences × the longest of source and target, padding included.
        batch_size: sentences of a batch at most.
        seed: of which pairs of one length meet, and of the order of batches.
        device: where the batches end up.
        share: which rows of every batch are this process's.

    Raises:
        ValueError: a sentence is longer than `max_tokens`, or a batch too small to be shared.
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        max_tokens: int,
        batch_size: int,
        seed: tuple[int, ...],
        device: torch.device,
        share: Share = WHOLE,
    ):
        self.pairs, self.max_tokens, self.device, self.share = pairs, max_tokens, device, share
        self.source, self.target = pairs.source, pairs.target
        draw = Stream(len(pairs), batch_size=1, seed=seed, share=WHOLE).draw(2)
        self._lengths = np.maximum(self.source.lengths, self.target.lengths)
        self._batches = self._cut(batch_size, draw)
        self.stream = Stream(len(self._batches), batch_size=1, seed=seed, share=WHOLE)

    def __len__(self) -> int:
        """Batches in one pass over the pairs; the same for every seed."""
        return len(self._batches)

    def batch(self, number: int) -> PairBatch:
        """The batch at position `number` of an endless stream that reshuffles with every pass over the batches."""
        epoch, place = self.stream.place(number)
        [chosen] = self.stream.order(epoch)[place]
        return self._made(self._batches[chosen])

    def in_order(self) -> Iterator[PairBatch]:
        """Every pair once, those of one length together; all processes have as many batches."""
        for index in self._cut(MOST_AT_ONCE, 0):
            yield self._made(index)

    def _cut(self, most: int, draw: int) -> list[np.ndarray]:
        needed = self.share.size * self.share.parts
        batches = cut(self._lengths, max_tokens=self.max_tokens, most=max(most, needed), seed=draw)
        if (fewest := min(map(len, batches))) < needed:
            raise ValueError(
                f"max_tokens={self.max_tokens}: makes a batch of {fewest} sentences, too few for {needed} parts "
                f"({self.share.size} processes x {self.share.parts} microbatches)"
            )
        return batches

    def _made(self, index: np.ndarray) -> PairBatch:
        widths = (sentences.lengths[index].max() for sentences in (self.source, self.target))
        source_width, target_width = widths
        lengths = self.target.lengths[index]
        rows = self.share.rows(len(index))
        index = index[rows]
        return PairBatch(
            self._on_device(self.source.padded(index, source_width, PAD)),
            self._on_device(self.target.padded(index, target_width, IGNORED)),
            tuple(lengths[rows].tolist()),
            int(lengths.sum()) / self.share.size,
            tuple(index.tolist()),
            tuple(self.pairs.references[number] for number in index),
            self.pairs.text,
        )

    def _on_device(self, rows: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(rows)
        if self.device.type == "cuda":  # from there it is copied while the host goes on
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def cut(lengths: np.ndarray, *, max_tokens: int, most: int, seed: int) -> list[np.ndarray]:
    """Indices in batches of about one length, the longest first.

    Args:
        lengths: of every sentence.
        max_tokens: of a batch, as sentences × longest.
        most: sentences of a batch.
        seed: of which of one length meet; how many batches there are depends on the lengths alone.

    Raises:
        ValueError: a sentence is longer than `max_tokens`.
    """
    if (longest := lengths.max()) > max_tokens:
        raise ValueError(f"max_tokens={max_tokens}: a sentence has {longest} tokens, its end included; allow as many")
    order = np.random.default_rng(seed).permutation(len(lengths))
    order = order[np.argsort(-lengths[order], kind="stable")]
    batches: list[np.ndarray] = []
    while len(order):
        count = min(most, int(max_tokens // lengths[order[0]]))
        batches.append(order[:count])
        order = order[count:]
    if len(batches) > 1 and len(batches[-1]) < len(batches[-2]):  # no batch of a few sentences that are left over
        batches[-2:] = np.array_split(np.concatenate(batches[-2:]), 2)
    return batches
