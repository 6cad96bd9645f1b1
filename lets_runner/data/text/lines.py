"""Lines of a text file."""

from pathlib import Path

from lets_runner.data.regular import check_regular


def read_lines(path: Path) -> list[str]:
    """The lines of a file in UTF-8; nothing but a line feed ends a line.

    Raises:
        OSError: there is no such file.
        ValueError: it is not UTF-8, or empty; one line that names the place.
    """
    check_regular(path)
    content = path.read_bytes()
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    if not lines:
        raise ValueError(f"{path}: is empty")
    return [_decoded(path, number, line) for number, line in enumerate(lines, 1)]


def read_sentences(path: Path) -> list[str]:
    """The lines of a file, with single spaces between words.

    Raises:
        ValueError: besides, a line has no words.
    """
    return [_single_spaced(path, number, line) for number, line in enumerate(read_lines(path), 1)]


def read_pair(paths: tuple[Path, Path]) -> tuple[list[str], list[str]]:
    """Two files whose lines belong together.

    Raises:
        ValueError: besides, one has more lines than the other.
    """
    first, second = (read_sentences(path) for path in paths)
    if len(first) != len(second):
        raise ValueError(
            f"{paths[0]} has {len(first)} lines, and {paths[1]} has {len(second)}: line by line they must translate "
            "each other"
        )
    return first, second


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, line {number}: is not UTF-8 ({error.reason})") from error


def _single_spaced(path: Path, number: int, line: str) -> str:
    words = line.split()
    if not words:
        raise ValueError(f"{path}, line {number}: has no words; leave out such a pair in both languages")
    return " ".join(words)
