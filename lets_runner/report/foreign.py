"""Files that anybody may have written: plain data comes out of them, or a few words on why it does not."""

import json
from pathlib import Path
from typing import Any

import yaml

LARGEST_FILE = 2**26  # bytes; those of a run have thousands
LARGEST_NUMBER = 1e100  # what is beyond cannot be squared
MOST_DEPTH = 30  # of nested mappings and lists
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # both make plain values only, the one in C ten times faster


class ForeignError(Exception):
    """A directory that looks like a run and cannot be read as one."""


def check_file(path: Path) -> None:
    """That a file is there, no pipe that is waited for, and of a size that a run's may have."""
    if not path.exists():
        raise ForeignError(f"no {path.name}")
    if not path.is_file():
        raise ForeignError(f"{path.name} is no file")
    if path.stat().st_size > LARGEST_FILE:
        raise ForeignError(f"{path.name} is larger than {LARGEST_FILE / 2**20:.0f} MiB")


def read_json(path: Path) -> dict[str, Any]:
    check_file(path)
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ForeignError(f"{path.name} cannot be read: {error}") from error
    except RecursionError:
        raise ForeignError(f"{path.name} cannot be read: it is nested too deeply") from None
    if not isinstance(content, dict):
        raise ForeignError(f"{path.name} is no mapping")
    return content


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping without references: a few lines of those can stand for more than any memory holds."""
    check_file(path)
    content = path.read_bytes()
    try:
        _check_events(path, content)
        tree = yaml.load(content, Loader=LOADER)
    except (yaml.YAMLError, ValueError, ArithmeticError) as error:
        raise ForeignError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(tree, dict):
        raise ForeignError(f"{path.name} is no mapping")
    return tree


def _check_events(path: Path, content: bytes) -> None:
    depth = 0
    for event in yaml.parse(content, Loader=LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise ForeignError(f"{path.name} refers to parts of itself, which no run writes")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise ForeignError(f"{path.name} cannot be read: it is nested too deeply")


def is_number(value: Any) -> bool:
    """Whether arithmetic is possible with it; what is not finite is a number too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return not LARGEST_NUMBER < abs(value) < float("inf")


def printable(text: str) -> str:
    """`text` with a mark in place of what no font, file or terminal has: control characters, halves of pairs."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
