"""A run's own `config.yaml` run again: `lets-train --config-dir RUN --config-name config seed=3`.

That file is resolved: it says nothing of Hydra, of the words that were chosen, nor which number follows from which. So
it is composed like `conf/train.yaml`, takes its name from the summary beside it, keeps its hash as long as nothing that
makes a configuration is changed, and is refused where its numbers were resolved for another length of training.
"""

import re
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from lets_runner import config
from lets_runner.config import Config, Origin, UserError
from lets_runner.run.files import read_summary

NAME = "rerun"  # of the configuration for Hydra
HASH = re.compile(r"# ([0-9a-f]{64})\n")


def primary(words: Sequence[str], conf: Path) -> tuple[str, list[str]]:
    """What Hydra is to begin with, and the command line without what said so.

    Raises:
        UserError: it is a run's own configuration and cannot be read.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument("--config-name", "-cn")
    asked, rest = parser.parse_known_args(words)
    if asked.config_dir is None or asked.config_name is None:
        return "train", list(words)
    path = asked.config_dir / f"{asked.config_name.removesuffix('.yaml')}.yaml"
    if not (path.is_file() and (written := HASH.match(path.read_text(encoding="utf-8", errors="replace")))):
        return "train", list(words)
    ConfigStore.instance().store(name=f"{NAME}.yaml", node=_composable(path, written[1], conf))
    return NAME, rest


def check_steps(cfg: DictConfig) -> None:
    """That what follows from the length of training still does; the data must be known. Raises UserError."""
    origin = cfg.derived.origin
    if origin is not None and origin.total_steps != cfg.derived.total_steps:
        raise UserError(
            f"the configuration that is run again was resolved for {origin.total_steps} steps, and this makes "
            f"{cfg.derived.total_steps}: its schedules would not fit; give epochs, batch_size and data to lets-train "
            "without --config-name"
        )


def _composable(path: Path, configuration: str, conf: Path) -> dict[str, Any]:
    """The content of `path` as Hydra composes it: typed by the schema, with the settings of Hydra in train.yaml."""
    try:
        content = OmegaConf.load(path)
        typed = OmegaConf.merge(OmegaConf.structured(Config), config.completed(content))
        steps = OmegaConf.select(typed, "derived.total_steps")
    except (YAMLError, ValueError, OSError) as error:  # OmegaConf's errors are ValueErrors or these
        raise UserError(f"{path} cannot be read: {error}") from error
    summary = read_summary(path.parent)
    choices = {word: summary.get(word) for word in ("data", "model", "method")}
    if not all(isinstance(word, str) for word in choices.values()):
        raise UserError(f"{path.parent / 'summary.json'} does not say what this run is called: put back what was there")
    assert isinstance(typed, DictConfig) and isinstance(content, DictConfig)
    origin = Origin(configuration=configuration, content=config.content_hash(typed), total_steps=steps)
    train = OmegaConf.load(conf / "train.yaml")
    hydra = OmegaConf.merge(train.hydra, {"runtime": {"choices": choices}})
    own = [entry for entry in train.defaults if str(entry).startswith("{'override hydra/")]
    plain = OmegaConf.to_container(config.completed(content))
    assert isinstance(plain, dict)
    return {
        **plain,
        "defaults": ["schema", "_self_", *own],
        "derived": {"total_steps": None, "origin": vars(origin)},
        "hydra": OmegaConf.to_container(hydra),
    }
