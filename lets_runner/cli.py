"""`lets-train`: from the command line to a run directory. The one module that builds things from a configuration.

conf -> compose -> check -> build everything -> for every record: write it down -> summary and curves.
"""

import os
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from lets_runner import config
from lets_runner.config import Precision, UserError
from lets_runner.data import BrokenImage, Data
from lets_runner.optim import FixedRadius, RadiusRule
from lets_runner.run import Run, environment, read_summary
from lets_runner.supervisor import result, supervise
from lets_runner.trainer import Loader, Trainer

BF16_SMALLEST_RHO = 1e-2  # below, the change of a gradient drowns in bf16's rounding
HERE = Path(__file__).resolve().parent
CONF = next((folder for folder in (HERE / "conf", HERE.parent / "conf") if folder.is_dir()), HERE / "conf")


# From the words on the command line to one run.


def main() -> None:
    """The console script: what its user can mend is one line on standard error, not a traceback."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    config.register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions on instead of printing them
    failures: list[Exception] = []
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(partial(_job, failures))()
    except (HydraException, OmegaConfBaseException) as error:
        failures.append(UserError(config.one_line(error, sys.argv[1:])))
        _complain(failures[-1])
    if failures:
        sys.exit(2 if isinstance(failures[-1], UserError) else 1)


def _complain(error: Exception, place: str = "") -> None:
    print(f"lets-train: {place}{error}", file=sys.stderr)


def _show_warning(message: Warning | str, *_: Any) -> None:
    print(f"lets-train: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _job(failures: list[Exception], cfg: DictConfig) -> None:
    """One run; what fails is told at once and kept for the exit code, and in a sweep the other runs go on."""
    job = HydraConfig.get()
    sweep = job.mode == RunMode.MULTIRUN
    named = config.names(job.runtime.choices)
    directory = config.run_directory(cfg, named)
    try:
        train(cfg, directory, named)
    except (UserError, FloatingPointError) as error:
        failures.append(error)
        _complain(error, f"{directory}: " if sweep else "")
        if sweep:
            _leave_note(directory, str(error), seed=cfg.seed)
    except Exception as error:
        if sweep:
            _leave_note(directory, repr(error), seed=cfg.seed)
        raise


def _leave_note(directory: Path, text: str, *, seed: int) -> None:
    """A refused run of a sweep leaves its reason where its results would be; never over a run that has some."""
    if not read_summary(directory):
        directory.mkdir(parents=True, exist_ok=True)
        Run(directory, config="").summarise(status="failed", error=text, seed=seed)


def train(cfg: DictConfig, directory: Path, named: dict[str, str]) -> None:
    """Train one configuration to its end, or on from where it stopped; `named` goes into the summary.

    Raises:
        UserError: before anything is written, if the configuration cannot be run; later, at an image that cannot be
            read: the last checkpoint is intact.
        NonFiniteError: training diverged; the last checkpoint is intact.
    """
    config.check(cfg)
    if finished := read_summary(directory, status="finished"):
        print(f"already finished: {result(finished)} in {directory}")
        return
    device = _device(cfg.device)
    parts = _build(cfg, device)
    run = Run(directory, config.to_yaml(cfg), test_columns=cfg.test_each_epoch)
    try:
        run.open()
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    facts = {
        **named,
        "seed": cfg.seed,
        "rho_start": cfg.sam.get("rho"),
        "device": _device_name(device),
        **environment(),
    }
    with run, closing(parts.data):
        try:
            supervise(run, parts.trainer, parts.test, facts, progress=cfg.progress)
        except BrokenImage as error:
            raise UserError(str(error)) from error


# Building.


@dataclass
class Parts:
    """What `_build` makes of a configuration."""

    data: Data
    trainer: Trainer
    test: Loader


def _build(cfg: DictConfig, device: torch.device) -> Parts:
    """Everything a run needs. All settings are tried out before any data is read."""
    torch.use_deterministic_algorithms(cfg.deterministic)
    torch.backends.cudnn.benchmark = not cfg.deterministic
    data: Data = _make(cfg, "data")
    task = _make(cfg, "task")
    torch.manual_seed(cfg.seed)
    model: nn.Module = _make(cfg, "model", data.shape, data.classes).to(device)
    if cfg.channels_last:
        model = model.to(memory_format=torch.channels_last)
    config.fill(cfg, total_steps=1)
    _make(cfg, "schedule", _check_radius(cfg, _optimizer(cfg, model, bf16=False), data))

    train, val, test = _loaders(cfg, data, device)
    config.fill(cfg, total_steps=cfg.epochs * len(train))
    bf16 = _wants_bf16(cfg.precision, device)
    optimizer = _optimizer(cfg, model, bf16=bf16)
    if optimizer.needs_validation and val is None:
        raise UserError(
            f"data.val_fraction={data.val_fraction}: of so few images that leaves none to learn the radius from"
        )
    if cfg.compile:
        model.compile()
    trainer = Trainer(
        model,
        optimizer,
        scheduler=_make(cfg, "schedule", optimizer),
        task=task,
        train=train,
        val=val,
        test=test if cfg.test_each_epoch else None,
        epochs=cfg.epochs,
        autocast=_autocast(device, bf16=bf16),
        checkpoint_every=cfg.checkpoint.every_steps,
        device=device,
    )
    return Parts(data, trainer, test)


def _make(cfg: DictConfig, key: str, *arguments: Any, **settings: Any) -> Any:
    """Instantiate one group of the configuration; what its constructor refuses is a UserError that names the key."""
    try:
        return instantiate(cfg[key], _partial_=True, _convert_="all")(*arguments, **settings)
    except (HydraException, OmegaConfBaseException, ValueError, TypeError, OSError) as error:
        raise config.user_error(key, error) from error


def _optimizer(cfg: DictConfig, model: nn.Module, *, bf16: bool) -> RadiusRule:
    """Base optimizer, SAM variant and radius rule, one around the other."""
    base = _make(cfg, "optimizer", [p for p in model.parameters() if p.requires_grad])
    sam = _make(cfg, "sam", base, model=model)
    if bf16:
        low, high = sam.rho_bounds
        sam.rho_bounds = max(low, BF16_SMALLEST_RHO), high
    return _make(cfg, "radius", sam)


def _check_radius(cfg: DictConfig, optimizer: RadiusRule, data: Data) -> RadiusRule:
    if not isinstance(optimizer, FixedRadius) and not optimizer.sam.uses_radius:
        raise UserError("sam=none never perturbs, so there is no radius to choose: take radius=fixed, or another sam")
    if optimizer.sam.shard_size is not None and cfg.batch_size % optimizer.sam.shard_size:
        raise UserError(
            f"batch_size={cfg.batch_size}: must be a multiple of the shards' size, {optimizer.sam.shard_size}"
        )
    if optimizer.needs_validation and data.val_fraction == 0:
        raise UserError(
            f"data.val_fraction=0: {type(optimizer).__name__} learns the radius from a validation split; give it a "
            "share of the training set, as in data.val_fraction=0.1, or take radius=fixed"
        )
    return optimizer


def _loaders(cfg: DictConfig, data: Data, device: torch.device) -> tuple[Loader, Loader | None, Loader]:
    """Training, validation (None if the split is empty) and test examples, as batches on the device."""
    try:
        splits = data.splits()
    except (OSError, ValueError) as error:
        raise config.user_error("data", error) from error
    if cfg.batch_size > len(splits.train):
        raise UserError(f"batch_size={cfg.batch_size}: there are only {len(splits.train)} training examples")

    def loader(examples: Any, batch_size: int, stream: int, *, augmented: bool) -> Loader:
        form = {"device": device, "channels_last": cfg.channels_last}
        return data.loader(examples, batch_size=batch_size, seed=(cfg.seed, stream), augmented=augmented, **form)

    train = loader(splits.train, cfg.batch_size, 0, augmented=True)
    val_size = min(cfg.val_batch_size or cfg.batch_size, len(splits.val))
    val = loader(splits.val, val_size, 1, augmented=True) if val_size else None
    return train, val, loader(splits.test, 1, 2, augmented=False)


def _device(name: str) -> torch.device:
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"device={name}: torch sees no CUDA device here; take device=cpu, or device=auto for what there is"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device={name}: torch sees {torch.cuda.device_count()} CUDA devices, numbered from 0")
    return device


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def _wants_bf16(precision: Precision, device: torch.device) -> bool:
    if precision is not Precision.auto:
        return precision is Precision.bf16
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def _autocast(device: torch.device, *, bf16: bool) -> Callable[[], AbstractContextManager]:
    return (lambda: torch.autocast(device.type, dtype=torch.bfloat16)) if bf16 else nullcontext
