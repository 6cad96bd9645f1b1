"""From a run directory back to its configuration and its weights."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn
from yaml import YAMLError

from lets_runner.config import UserError
from lets_runner.run.checkpoint import read_checkpoint, reported
from lets_runner.run.files import CHECKPOINTS, CONFIG


def find_runs(path: Path) -> Iterator[Path]:
    """The run directory at `path`, or all of them below it but in hidden directories.

    Raises:
        UserError: there is none.
    """
    found = False
    for folder, below, files in os.walk(path):
        below[:] = sorted(name for name in below if not name.startswith("."))  # where trackers keep copies
        if "config.yaml" in files or "summary.json" in files:  # the latter alone: refused, and to be named
            below.clear()
            found = True
            yield Path(folder).resolve()
    if not found:
        raise UserError(f"{path}: no run directory here or below; give one that lets-train has written, or its parent")


def read_config(directory: Path) -> DictConfig:
    """The configuration that a run wrote down: whole and resolved; raises UserError."""
    try:
        cfg = OmegaConf.load(directory / CONFIG)
    except FileNotFoundError as error:
        raise UserError("has no config.yaml: this run was refused before it began") from error
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"config.yaml cannot be read: {error}") from error
    return checked_config(cfg)


def checked_config(cfg: Any) -> DictConfig:
    """That it says what a model is made of; raises UserError."""
    if not isinstance(cfg, DictConfig) or any(cfg.get(key) is None for key in ("data", "model", "task", "seed")):
        raise UserError("config.yaml is none that lets-train has written: it must say data, model, task and seed")
    return cfg


def read_state(directory: Path, checkpoint: str) -> dict[str, Any]:
    """A checkpoint of a run: `last` or `best`, its checksum verified, and that it is of this configuration and seed.

    Raises:
        UserError: it is not there, damaged, or another run's.
    """
    path = directory / CHECKPOINTS / f"{checkpoint}.pt"
    name = f"{CHECKPOINTS}/{path.name}"
    if not path.exists():
        if checkpoint == "best" and (path.parent / "last.pt").exists():
            raise UserError(f"there is no {name}: nothing was validated in this run; take the checkpoint last")
        raise UserError(f"there is no {name}: nothing of this run was saved; train it first")
    try:
        state = read_checkpoint(path)
    except ValueError as error:
        raise UserError(str(error)) from error
    first = (directory / CONFIG).read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
    if state.get("configuration") not in (None, first.removeprefix("# ")):
        raise UserError(f"{name} is another configuration's than config.yaml; put back what was there")
    return state


def put(model: nn.Module, state: dict[str, Any], name: str) -> None:
    """Put the weights of a checkpoint, called `name`, into `model`; raises UserError."""
    try:
        model.load_state_dict(reported(state))
    except (RuntimeError, KeyError, TypeError) as error:
        raise UserError(f"{name} does not fit the model that config.yaml names") from error


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """The same for the same weights, in whatever precision they are held."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode() + tensor.cpu().double().numpy().tobytes())
    return digest.hexdigest()[:16]
