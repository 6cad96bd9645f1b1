"""Checkpoints: data only, never code."""

import warnings
from pathlib import Path
from typing import Any

import torch


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `Run.save` wrote, on the CPU.

    Raises:
        ValueError: it cannot be read, or is no checkpoint of this program.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on a file that will be refused anyway
            # weights_only: a checkpoint is data, and a pickle that wants to run code is refused.
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not isinstance(state.get("step"), int):
            raise ValueError("not a checkpoint of this program")
        return state
    except Exception as error:  # whatever a damaged file makes the reader raise
        reason = str(error).strip().split("\n")[0][:200]
        raise ValueError(f"{path} cannot be read ({type(error).__name__}: {reason})") from error
