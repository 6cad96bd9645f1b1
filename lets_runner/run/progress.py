"""How far a run is, on standard error: a bar in a terminal, a line an epoch in a file."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from tqdm import tqdm

from lets_runner.columns import PARTS, Column
from lets_runner.console import Heedless
from lets_runner.record import Record


@contextmanager
def shown(column: Column, *, total: int, done: int, wanted: bool) -> Iterator[Callable[[Record], None]]:
    """What shows a record.

    Args:
        column: of an epoch, shown beside the loss and the radius.
        total: steps of the run.
        done: steps before the first record.
        wanted: show nothing if not.
    """
    stream = sys.stderr
    if not wanted or stream is None:
        yield lambda record: None
    elif not _is_terminal(stream):
        yield lambda record: _write_epoch(Heedless(stream), record, column, total)
    else:
        with tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, file=Heedless(stream)) as bar:
            yield lambda record: _advance(bar, record, column)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _write_epoch(stream: Heedless, record: Record, column: Column, total: int) -> None:
    if record.epoch is not None:
        stream.write(f"epoch {record.epoch['epoch']:.0f}, step {record.step} of {total}, {_words(record, column)}\n")
        stream.flush()


def _advance(bar: tqdm, record: Record, column: Column) -> None:
    bar.set_postfix_str(_words(record, column), refresh=False)
    bar.update(record.step - bar.n)


def _words(record: Record, column: Column) -> str:
    words = ["loss {loss:.3f}, rho {rho:.4g}".format(**record.steps[-1])] if record.steps else []
    if record.epoch is not None:
        values = {part: record.epoch[f"{part}_{column.name}"] for part in PARTS[:2] if part in column.when}
        scores = ", ".join(f"{column.show(value, 1)} {part}" for part, value in values.items())
        words.append(f"{column.words} {scores}")
    return ", ".join(words)
