"""The schema of a run's configuration, the checks across its keys, and refusals with the key in front."""

import hashlib
import json
import math
import re
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from lets_runner import later
from lets_runner.keys import all_keys, leaves, proposal
from lets_runner.run.files import ASIDE, ASIDE_OF_DATA
from lets_runner.signature import LARGEST, PLAIN, annotations

PATHS = ("init_from", "model.pretrained")  # whose values may be run directories, or files in them
COMPONENTS = ("data", "model", "task", "optimizer", "schedule", "sam", "radius")  # a constructor and its settings


class UserError(Exception):
    """Something that the user can fix; its text is one line that says how."""

    def __init__(self, text: str):
        super().__init__(" ".join(text.split()))


class OwnError(UserError):
    """One that this process alone has met: of several, each meets every other UserError."""


class TakenError(UserError):
    """Another process is using the run directory, so nothing may be written there."""


class Precision(Enum):
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"
    auto = "auto"


class Strategy(Enum):
    ddp = "ddp"
    fsdp = "fsdp"


@dataclass
class Distributed:
    strategy: Strategy = MISSING
    sync_batchnorm: bool = MISSING


@dataclass
class Checkpoint:
    every_steps: int | None = MISSING


@dataclass
class Ema:
    decay: float | None = MISSING


@dataclass
class EarlyStopping:
    patience: int | None = MISSING


@dataclass
class Origin:
    """The configuration that is run again: its hash, that of its content, and the steps it was resolved for."""

    configuration: str = MISSING
    content: str = MISSING
    total_steps: int | None = None


@dataclass
class Derived:
    total_steps: int | None = MISSING
    origin: Origin | None = None


@dataclass
class Config:
    """What the runner itself reads; a component's schema is its constructor. Values stand in conf/train.yaml."""

    data: Any = MISSING
    model: Any = MISSING
    task: Any = MISSING
    logger: dict[str, Any] = field(default_factory=dict)
    optimizer: Any = MISSING
    schedule: Any = MISSING
    sam: Any = MISSING
    radius: Any = MISSING
    init_from: str | None = MISSING
    epochs: int = MISSING
    batch_size: int = MISSING
    val_batch_size: int | None = MISSING
    seed: int = MISSING
    device: str = MISSING
    precision: Precision = MISSING
    deterministic: bool = MISSING
    channels_last: Any = MISSING
    compile: bool = MISSING
    graphs: Any = MISSING
    accumulate: int = MISSING
    grad_clip: float | None = MISSING
    perturbation_sync: str = MISSING
    test_each_epoch: bool = MISSING
    output: str = MISSING
    progress: bool = MISSING
    ema: Ema = field(default_factory=Ema)
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    distributed: Distributed = field(default_factory=Distributed)
    derived: Derived = field(default_factory=Derived)


def register() -> None:
    """Make the schema and the resolvers known to Hydra."""
    ConfigStore.instance().store(name="schema", node=Config)
    OmegaConf.register_new_resolver("share_of_steps", _share_of_steps, replace=True)
    OmegaConf.register_new_resolver("for_task", _for_task, replace=True)


def _share_of_steps(share: float, *, _root_: DictConfig) -> int:
    return round(float(share) * _root_.derived.total_steps)


def _for_task(usual: Any, others: dict[str, Any], *, _root_: DictConfig) -> Any:
    """What `others` says for the task of the data, and else what is usual."""
    return others.get(_root_.data.task, usual)


def check(cfg: DictConfig) -> None:
    """Check the runner's own keys; raises UserError."""
    check_form(cfg)
    for key in ("epochs", "batch_size", "accumulate"):
        if cfg[key] < 1:
            raise UserError(f"{key}={cfg[key]}: must be at least 1")
    for key, value in {
        "val_batch_size": cfg.val_batch_size,
        "checkpoint.every_steps": cfg.checkpoint.every_steps,
        "early_stopping.patience": cfg.early_stopping.patience,
    }.items():
        if value is not None and value < 1:
            raise UserError(f"{key}={value}: must be at least 1, or null")
    if cfg.grad_clip is not None and not 0 < cfg.grad_clip < math.inf:
        raise UserError(f"grad_clip={cfg.grad_clip}: must be a finite number above 0, or null for no clipping")
    if cfg.ema.decay is not None and not 0 < cfg.ema.decay < 1:
        raise UserError(f"ema.decay={cfg.ema.decay}: must lie between 0 and 1, or be null for no averaging")
    or_auto = (True, False, "auto")
    for key, choices in {
        "channels_last": or_auto,
        "graphs": or_auto,
        "perturbation_sync": ("global", "local"),
    }.items():
        if not any(cfg[key] is choice or cfg[key] == choice == str(choice) for choice in choices):
            words = ", ".join(str(choice).lower() for choice in choices)
            raise UserError(f"{key}={cfg[key]}: must be one of {words}")
    if not 0 <= cfg.seed <= LARGEST:
        raise UserError(f"seed={cfg.seed}: must lie between 0 and {LARGEST}")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", cfg.device):
        raise UserError(f"device={cfg.device}: must be auto, cpu, cuda or cuda:N")


def check_form(cfg: DictConfig) -> None:
    """That all keys are there, and no others, and that all references lead somewhere; raises UserError."""
    known, plain = [field.name for field in fields(Config)], _plain(cfg, resolve=False)
    for key in plain:
        if key not in known:
            raise UserError(f"+{key}: the runner has no such key{proposal(key, list(all_keys(plain)))}")
    for key, value in leaves(plain):
        if value == MISSING:
            raise UserError(f"{key}: no value; give one, as in {key}=...")
    filled = cfg.copy()
    fill(filled, total_steps=1)
    for key, value in leaves(plain):
        try:
            OmegaConf.select(filled, key)
        except (OmegaConfBaseException, RecursionError) as error:
            raise UserError(f"{key}={value}: {str(error).splitlines()[0]}") from error
    for key in COMPONENTS:
        if isinstance(filled[key], DictConfig) and all(f"{key}.{name}" in later.OWN for name in filled[key]):
            raise UserError(f"{key}: no value; give one, as in {key}=...")
        if not isinstance(filled[key], DictConfig) or "_target_" not in filled[key]:
            raise UserError(
                f"{key}={filled[key]}: says no _target_ to make it from; lets-train --help shows every {key}"
            )


def split(cfg: DictConfig) -> tuple[DictConfig, dict[str, str]]:
    """What Hydra composed, without Hydra's own part, and what to call the run."""
    named = names(cfg.hydra.runtime.choices)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, named


def identity(cfg: DictConfig) -> str:
    """A hash that stands for the configuration, seed and destination apart."""
    content, origin = content_hash(cfg), OmegaConf.select(cfg, "derived.origin")
    return content if origin is None or origin.content != content else origin.configuration


def content_hash(cfg: DictConfig) -> str:
    """As `identity`, of the values as they stand there: a resolved configuration has another than it was made from."""
    kept = {key: value for key, value in _plain(cfg, resolve=False).items() if key not in ASIDE}
    kept["data"] = {key: value for key, value in kept["data"].items() if key not in ASIDE_OF_DATA}
    kept = later.without(kept)
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def completed(content: Any) -> Any:
    """What a run wrote down, with the settings that say nothing, for others to change: those that its parts take."""
    whole = OmegaConf.create(OmegaConf.to_container(content)) if isinstance(content, DictConfig) else content
    for key, usual in later.LATER.items() if isinstance(whole, DictConfig) else []:
        group, _, name = key.partition(".")
        target = str(OmegaConf.select(whole, f"{group}._target_"))
        its_own = group in COMPONENTS and key not in later.OWN
        if OmegaConf.select(whole, key) is None and not (its_own and name not in annotations(target)):
            OmegaConf.update(whole, key, usual, force_add=True)
    return whole


def method_name(sam: str, radius: str) -> str:
    """The name of a pair of choices: the stem of its `method` preset, where there is one."""
    if sam == "none":
        return "erm"
    if radius == "fixed":
        return sam
    return f"{ {'gap_matching': 'gm'}.get(radius, radius) }_{sam}"


def names(choices: dict[str, Any]) -> dict[str, str]:
    """What to call a run, from the words chosen in each group; a configuration that is run again has the last alone."""
    method = method_name(str(choices["sam"]), str(choices.get("radius"))) if "sam" in choices else choices.get("method")
    return {"data": str(choices.get("data")), "model": str(choices.get("model")), "method": str(method)}


def run_directory(cfg: DictConfig, named: dict[str, str]) -> Path:
    """Where this configuration and seed go; `named` is for people, the digits after it keep configurations apart.

    Raises:
        UserError: it is not whole, see `check_form`.
    """
    check_form(cfg)
    name = "-".join(named.values()).replace("/", "_")
    return Path(cfg.output) / name / identity(cfg)[:8] / f"seed={cfg.seed}"


def to_yaml(cfg: DictConfig) -> str:
    """The whole configuration, resolved; two are the same if their first lines are."""
    return f"# {identity(cfg)}\n" + OmegaConf.to_yaml(OmegaConf.create(_whole(cfg)))


def to_tell(cfg: DictConfig) -> dict[str, Any]:
    """The configuration for trackers to show, resolved; nothing about themselves, such as where they are."""
    return {key: value for key, value in _whole(cfg).items() if key != "logger"}


def _whole(cfg: DictConfig) -> dict[str, Any]:
    """Resolved, with what says something, and what it is another run of only where there is one."""
    plain = later.without(_plain(cfg, resolve=True))
    if plain["derived"].get("origin") is None:
        plain["derived"].pop("origin", None)
    return plain


def _plain(cfg: DictConfig, *, resolve: bool) -> dict[str, Any]:
    plain = OmegaConf.to_container(cfg, resolve=resolve, enum_to_str=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def settings(node: DictConfig) -> dict[str, Any]:
    """What a component's constructor gets of its configuration."""
    return {key: value for key, value in _plain(node, resolve=True).items() if not key.startswith("_")}


def fill(cfg: DictConfig, *, total_steps: int) -> None:
    """Say what only the data could tell."""
    OmegaConf.update(cfg, "derived.total_steps", total_steps)


def user_error(key: str, error: Exception) -> UserError:
    """A constructor's refusal with the full key in front: its own messages begin with `setting=value`."""
    cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
    text = str(cause)
    if isinstance(cause, TypeError):
        text = f"a setting is missing, unknown or of the wrong type: {text}"
    text = re.sub(r"^(\w+)=(None|True|False):", lambda match: f"{match[1]}={PLAIN[match[2]]}:", text)
    return UserError(f"{key}.{text}" if re.match(r"\w+=", text) else f"{key}: {text}")


def quoted(word: str) -> str:
    """A word of the command line with its paths in quotes, where Hydra would stumble over seed=0 in them."""
    key, sign, value = word.partition("=")
    if key not in PATHS or "=" not in value or any(mark in value for mark in "'\"[]{}"):
        return word
    return key + sign + ",".join(f"'{path}'" for path in value.split(","))
