"""Sequences of token ids that live on the training device, and batches of them, padded to the longest of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lets_runner.data.loader import Batch, TensorLoader

MULTIPLE = 8  # of tokens, to which batches are padded: so do tensor cores compute best, and shapes are few


@dataclass(frozen=True)
class Tokens:
    """Sequences, and their targets.

    Ids and segments (N, L) are int32 and uint8; of a sequence that ends before, after its `lengths` (N,), int32, ids
    are `padding` and segments 0.
    """

    ids: Tensor
    segments: Tensor
    lengths: Tensor
    targets: Tensor
    padding: int

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Any) -> "Tokens":
        parts = {name: getattr(self, name)[index] for name in ("ids", "segments", "lengths", "targets")}
        return replace(self, **parts)

    def to(self, device: torch.device) -> "Tokens":
        parts = {name: getattr(self, name).to(device) for name in ("ids", "segments", "lengths", "targets")}
        return replace(self, **parts)

    def inputs(self, width: int) -> dict[str, Tensor]:
        """What the models of transformers call them, (N, `width`)."""
        ids, segments = self.ids[:, :width], self.segments[:, :width]
        places = torch.arange(width, device=ids.device)
        mask = (places < self.lengths[:, None]).long()
        return {"input_ids": ids.long(), "attention_mask": mask, "token_type_ids": segments.long()}


def padded(ids: Sequence[Sequence[int]], segments: Sequence[Sequence[int]], targets: Tensor, **form: int) -> Tokens:
    """Sequences in a rectangle.

    Args:
        form: `padding`, the id; `width`, in tokens.
    """
    padding, width = form["padding"], form["width"]
    lengths = np.array([len(each) for each in ids], dtype=np.int32)
    inside = np.arange(width) < lengths[:, None]
    whole = np.full((len(ids), width), padding, dtype=np.int32)
    kinds = np.zeros((len(ids), width), dtype=np.uint8)
    whole[inside] = np.fromiter((token for each in ids for token in each), np.int32, int(lengths.sum()))
    kinds[inside] = np.fromiter((kind for each in segments for kind in each), np.uint8, int(lengths.sum()))
    return Tokens(torch.from_numpy(whole), torch.from_numpy(kinds), torch.from_numpy(lengths), targets, padding)


class TokenLoader(TensorLoader):
    """Batches (inputs by name, targets), each as wide as its longest sequence, rounded up to a multiple of eight.

    All processes that share a batch have it equally wide. Lengths are known on the host: no batch waits for the device.

    Args:
        examples: sequences.
        fixed: whether all batches are as wide as `examples` are.
        settings: see `TensorLoader`.
    """

    examples: Tokens

    def __init__(self, examples: Tokens, *, fixed: bool, **settings: Any):
        super().__init__(examples, **settings)
        self._lengths, self._fixed = examples.lengths.cpu().numpy(), fixed

    def in_order(self, batch_size: int = 100) -> Iterator[Batch]:
        return super().in_order(batch_size)

    def _drawn(self, index: Tensor, rows: slice, number: int) -> Any:
        epoch, place = self.stream.place(number)
        whole = self._lengths[self.stream.order(epoch)[place]]
        return self.examples[index[rows]].inputs(self._width(whole))

    def _plain(self, piece: slice) -> Any:
        return self.examples[piece].inputs(self._width(self._lengths[piece]))

    def _width(self, lengths: np.ndarray) -> int:
        """Of a batch of sequences of these lengths."""
        widest = self.examples.ids.shape[1]
        return widest if self._fixed else min(rounded(int(lengths.max())), widest)


def rounded(length: int) -> int:
    """The next multiple of eight."""
    return -(-length // MULTIPLE) * MULTIPLE
