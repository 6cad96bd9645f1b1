"""What may be opened as a file of data: reading a FIFO would wait for ever, and a device may have no end."""

import stat
from pathlib import Path


def check_regular(path: str | Path) -> None:
    """Raise OSError, naming it, where there is no regular file at `path`."""
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode):
        kind = next((name for name, test in KINDS.items() if test(mode)), "something else")
        raise OSError(f"{path} is {kind}, not a regular file")


KINDS = {
    "a folder": stat.S_ISDIR,
    "a FIFO": stat.S_ISFIFO,
    "a socket": stat.S_ISSOCK,
    "a device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
}
