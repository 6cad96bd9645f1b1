"""Checkpoints: data only, never code, with a checksum and the name of the program that wrote them.

A file is what `torch.save` makes of a state: a zip archive, which may end with a comment, and that is the checksum.
"""

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch

from lets_runner import __version__

FORMAT = 2  # of a state. 1 had no checksum, and did not say what wrote it for which run
KIND = b"sha256:"
LENGTH = len(KIND) + 2 * hashlib.sha256().digest_size  # of the comment


def stamped(state: dict[str, Any], *, configuration: str, seed: int) -> dict[str, Any]:
    """`state`, and beside it what wrote it and for which run."""
    return {"format": FORMAT, "version": __version__, "configuration": configuration, "seed": seed, **state}


def pack(state: dict[str, Any]) -> memoryview:
    """The content of a file that holds `state`."""
    file = io.BytesIO()
    torch.save(state, file)
    comment = _comment(file.getbuffer()[:-2])
    file.seek(-2, io.SEEK_END)  # the last field of an archive without a comment: that it has a length of 0
    file.write(LENGTH.to_bytes(2, "little") + comment)
    return file.getbuffer()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `pack` was given, on the CPU; or what a program without checksums saved.

    Raises:
        ValueError: it cannot be read, is damaged, no checkpoint of this program, or one of a later version.
    """
    try:
        content = path.read_bytes()
        has_checksum = _verified(memoryview(content))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on a file that will be refused anyway
            # weights_only: a checkpoint is data, and a pickle that wants to run code is refused.
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not isinstance(state.get("step"), int):
            raise ValueError("not a checkpoint of this program")
        if (written := state.get("format", 1)) > FORMAT:
            raise ValueError(f"lets_runner {state.get('version')} wrote it, and {__version__} cannot read that")
        if written > 1 and not has_checksum:
            raise ValueError("its checksum is gone")
        return state
    except Exception as error:  # whatever a damaged file makes the reader raise
        reason = str(error).strip().split("\n")[0][:200]
        name = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise ValueError(f"{path} cannot be read ({name}{reason})") from error


def is_checkpoint(path: Path) -> bool:
    """Whether the file has a checksum, right or not, as this program writes it."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - LENGTH))
        return file.read(len(KIND)) == KIND


def reported(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint whose scores its run reports: the average, where it keeps one, else the model's."""
    return state.get("ema", state)["model"]


def _verified(content: memoryview) -> bool:
    """Whether the file has a checksum, and then the right one."""
    body, length, comment = content[: -LENGTH - 2], content[-LENGTH - 2 : -LENGTH], content[-LENGTH:]
    if comment[: len(KIND)] != KIND:
        return False
    if length != LENGTH.to_bytes(2, "little") or comment != _comment(body):
        raise ValueError("damaged: its checksum is another")
    return True


def _comment(body: memoryview) -> bytes:
    return KIND + hashlib.sha256(body).hexdigest().encode()
