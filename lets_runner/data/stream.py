"""Which examples make a batch: a function of (seed, number) alone, and the same for any number of processes.

A run that stops can go on anywhere without a generator's state, on one process or on several that share its batches.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Share:
    """What process `rank` of `size` that train together takes of every batch; everything by default.

    Args:
        parts: microbatches that each process cuts its rows into.

    Raises:
        ValueError: there is no such rank.
    """

    rank: int = 0
    size: int = 1
    parts: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank={self.rank}: must lie between 0 and {self.size - 1}, of {self.size} processes")

    def rows(self, count: int) -> slice:
        """Which of `count` rows are its own: the shares follow each other and differ by a row at most."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)


WHOLE = Share()


class Stream:
    """An endless stream of batches of indices that reshuffles with every pass over `count` examples.

    Args:
        batch_size: of the whole batch, over all shares; each pass leaves out a last incomplete batch.
        seed: of the order, and of what is drawn for a batch. Streams that are to differ need different seeds.
        share: which rows of every batch are this process's; it changes nothing else.

    Raises:
        ValueError: no batch of this size can be drawn, or shared.
    """

    def __init__(self, count: int, *, batch_size: int, seed: tuple[int, ...], share: Share):
        if count < share.size:
            raise ValueError(f"{count} examples are too few for {share.size} processes: start {count} at most")
        if not 1 <= batch_size <= count:
            raise ValueError(f"batch_size={batch_size}: must lie between 1 and the {count} examples there are")
        if batch_size % share.size:
            raise ValueError(f"batch_size={batch_size}: must be a multiple of the {share.size} processes that share it")
        self.count, self.batch_size, self.seed, self.share = count, batch_size, seed, share
        self.rows = share.rows(batch_size)  # of a batch, that are this process's
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Batches in one pass over the examples."""
        return self.count // self.batch_size

    def place(self, number: int) -> tuple[int, slice]:
        """The pass that batch `number` belongs to, and where it lies in the order of that pass."""
        epoch, position = divmod(number, len(self))
        return epoch, slice(position * self.batch_size, (position + 1) * self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """All indices as one pass takes them."""
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, np.random.default_rng(self.draw(0, epoch)).permutation(self.count)
        return self._order[1]

    def draw(self, *purpose: int) -> int:
        """A seed for one purpose, unrelated to its neighbours: (0, epoch) an order, (1, number, ...) a batch."""
        return int(np.random.SeedSequence([*self.seed, *purpose]).generate_state(1, np.uint64)[0] >> np.uint64(1))

    def pieces(self, size: int) -> list[slice]:
        """The examples of this process in ascending order, in pieces of about `size`.

        Every example is in one piece of one process, and all processes have as many pieces: they may have to meet in
        every forward pass.
        """
        largest, smallest = -(-self.count // self.share.size), self.count // self.share.size
        number = min(-(-largest // size), smallest)
        mine = self.share.rows(self.count)
        cuts = [mine.start + piece * (mine.stop - mine.start) // number for piece in range(number + 1)]
        return [slice(start, stop) for start, stop in zip(cuts, cuts[1:], strict=False)]
