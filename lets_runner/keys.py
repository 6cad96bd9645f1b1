"""Keys of a configuration: all of them, and those that somebody may have meant by one that is not there."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

CLOSE, CLOSER = 0.6, 0.75  # as difflib rates how much two words are like each other
MOST = 3  # proposals


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every full key of nested mappings and lists, as in `optimizer.betas[0]`, and its value."""
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(node, list) and node:
        for place, value in enumerate(node):
            yield from leaves(value, f"{prefix}[{place}]")
    else:
        yield prefix, node


def all_keys(node: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """Every full key of nested mappings, groups and settings."""
    for key, value in node.items():
        full = f"{prefix}.{key}" if prefix else str(key)
        yield full
        if isinstance(value, Mapping):
            yield from all_keys(value, full)


def meant(key: str, keys: Iterable[str]) -> list[str]:
    """Full keys that `key` may stand for, at most three.

    Those that end in the same word; else those beside it, else anywhere, whose last word is most like its own.
    """
    others = [full for full in keys if full != key]
    if same := [full for full in others if _last(full) == _last(key)]:
        return same[:MOST]
    beside = [full for full in others if _parent(full) == _parent(key)]
    return _likest(key, beside, CLOSE) or _likest(key, others, CLOSER)


def proposal(key: str, keys: list[str]) -> str:
    """What `key` may have been meant for, at the end of a sentence; nothing where nothing is like it."""
    return f"; did you mean {' or '.join(found)}?" if (found := meant(key, keys)) else ""


def _likest(key: str, keys: list[str], enough: float) -> list[str]:
    rated = {full: _likeness(_last(key), _last(full)) for full in keys}
    most = max(rated.values(), default=0.0)
    return [full for full, likeness in rated.items() if likeness == most >= enough][:MOST]


def _likeness(word: str, other: str) -> float:
    if _initials(word) == other or _initials(other) == word:
        return 1.0
    return difflib.SequenceMatcher(None, word, other).ratio()


def _initials(word: str) -> str | None:
    """Such as `lr` for `learning_rate`; None of a single word."""
    parts = word.split("_")
    return "".join(part[:1] for part in parts) if len(parts) > 1 else None


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _parent(key: str) -> str:
    return key.rpartition(".")[0]
