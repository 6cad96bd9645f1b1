"""`lets-train`: from the command line to a run directory. The one module that builds things from a configuration.

conf -> compose -> check -> build everything -> for every record: write it down -> summary and curves.
"""

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from lets_runner import config, slurm
from lets_runner.config import OwnError, Precision, UserError
from lets_runner.data import BrokenImage, Data, Share, Splits
from lets_runner.optim import FixedRadius, RadiusRule
from lets_runner.processes import Group, Processes, launched, local_rank, part, rank
from lets_runner.run import Run, environment, read_summary
from lets_runner.supervisor import follow, result, supervise
from lets_runner.sweep import mark
from lets_runner.tasks import Task
from lets_runner.trackers import Guard, Tracker
from lets_runner.trainer import ALONE, Loader, Trainer

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
    finally:
        part()
    if failures:
        sys.exit(2 if isinstance(failures[-1], UserError) else 1)


def compose(*overrides: str) -> tuple[DictConfig, dict[str, str]]:
    """The configuration that the command line makes of `overrides`, and what its run is called."""
    config.register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("train", list(overrides), return_hydra_config=True)
    return config.split(cfg)


def _complain(error: Exception, place: str = "") -> None:
    if rank() > 0 and not isinstance(error, OwnError):
        return  # the leading process says it
    print(f"lets-train: {place}{error}", file=sys.stderr)


def _show_warning(message: Warning | str, *_: Any) -> None:
    print(f"lets-train: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _job(failures: list[Exception], cfg: DictConfig) -> float | None:
    """One run; what fails is told at once and kept for the exit code, and in a sweep the other runs go on.

    Returns the validation accuracy, for sweepers that want a number.
    """
    config.register()  # some launchers take it to another process
    slurm.as_torchrun()
    job = HydraConfig.get()
    sweep = job.mode == RunMode.MULTIRUN
    named = config.names(job.runtime.choices)
    directory = config.run_directory(cfg, named)
    if sweep:
        mark(directory)
    try:
        train(cfg, directory, named)
        return read_summary(directory).get("val_accuracy")
    except (UserError, FloatingPointError) as error:
        failures.append(error)
        _complain(error, f"{directory}: " if sweep else "")
        if sweep:
            _leave_note(directory, str(error), seed=cfg.seed)
        return None
    except Exception as error:
        if sweep:
            _leave_note(directory, repr(error), seed=cfg.seed)
            traceback.print_exc()  # a sweep hears of it otherwise only by the count
        raise


def _leave_note(directory: Path, text: str, *, seed: int) -> None:
    """A refused run of a sweep leaves its reason where its results would be; never over a run that has some."""
    if "step" not in read_summary(directory):
        Run(directory, config="").summarise(status="failed", error=text, seed=seed)


def train(cfg: DictConfig, directory: Path, named: dict[str, str]) -> None:
    """Train one configuration to its end, or on from where it stopped; `named` goes into the summary.

    Raises:
        UserError: before anything is written, if the configuration cannot be run; later, at an image that cannot be
            read: the last checkpoint is intact.
        NonFiniteError: training diverged; the last checkpoint is intact.
    """
    config.check(cfg)
    device = pick_device(cfg.device)
    processes = _processes(cfg, device)
    if finished := processes.share(lambda: read_summary(directory, status="finished")):
        if processes.leads:
            print(f"already finished: {result(finished)} in {directory}")
        return
    trackers = {key: _make(cfg, f"logger.{key}") for key in cfg.logger}
    parts = _build(cfg, device, processes)
    run = Run(directory, config.to_yaml(cfg), test_columns=cfg.test_each_epoch)
    processes.only(lambda: _open(run))
    facts = {
        **named,
        "seed": cfg.seed,
        "rho_start": cfg.sam.get("rho"),
        "device": _device_name(device),
        "processes": processes.size,
        **environment(),
    }
    with run, closing(parts.data):
        try:
            if processes.leads:
                supervise(
                    run,
                    parts.trainer,
                    parts.test,
                    facts,
                    progress=cfg.progress,
                    trackers=_guarded(trackers, cfg, named),
                )
            else:
                follow(parts.trainer, parts.test)
        except BrokenImage as error:
            raise OwnError(str(error)) from error


def _open(run: Run) -> None:
    try:
        run.open()
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error


# Building.


@dataclass
class Parts:
    """What `_build` makes of a configuration."""

    data: Data
    trainer: Trainer
    test: Loader


def _build(cfg: DictConfig, device: torch.device, processes: Processes = ALONE) -> Parts:
    """Everything a run needs. All settings are tried out before any data is read."""
    torch.use_deterministic_algorithms(cfg.deterministic)
    torch.backends.cudnn.benchmark = not cfg.deterministic
    data, task, model = components(cfg, device)
    precision = _precision(cfg.precision, device)
    channels_last = _channels_last(cfg.channels_last, precision, device)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    if cfg.compile:
        model.compile()
    model = processes.wrap(model)
    config.fill(cfg, total_steps=1)
    trial = _optimizer(cfg, model, precision, processes)
    _make(cfg, "schedule", trial)
    _check_radius(cfg, trial, data)
    _check_batches(cfg, trial, processes)

    train, val, test = _loaders(cfg, data, device, processes, channels_last=channels_last)
    config.fill(cfg, total_steps=cfg.epochs * len(train))
    optimizer = _optimizer(cfg, model, precision, processes)
    if optimizer.needs_validation and val is None:
        raise UserError(
            f"data.val_fraction={data.val_fraction}: of so few images that leaves none to learn the radius from"
        )
    if processes.rank > 0:  # its own dropout masks
        torch.manual_seed(int(np.random.SeedSequence([cfg.seed, processes.rank]).generate_state(1)[0]))
    shard_size = optimizer.sam.shard_size
    trainer = Trainer(
        model,
        optimizer,
        scheduler=_make(cfg, "schedule", optimizer),
        task=task,
        train=train,
        val=val,
        test=test if cfg.test_each_epoch else None,
        epochs=cfg.epochs,
        autocast=_autocast(device, precision),
        checkpoint_every=cfg.checkpoint.every_steps,
        device=device,
        parts=cfg.accumulate if shard_size is None else cfg.batch_size // processes.size // shard_size,
        val_parts=cfg.accumulate,
        processes=processes,
    )
    return Parts(data, trainer, test)


def components(cfg: DictConfig, device: torch.device) -> tuple[Data, Task, nn.Module]:
    """Data set (nothing of it read yet), task and untrained model of a configuration.

    Raises:
        UserError: a constructor refuses its settings.
    """
    data: Data = _make(cfg, "data")
    task: Task = _make(cfg, "task")
    torch.manual_seed(cfg.seed)
    return data, task, _make(cfg, "model", data.shape, data.classes).to(device)


def _make(cfg: DictConfig, key: str, *arguments: Any, **settings: Any) -> Any:
    """Instantiate one group of the configuration; what its constructor refuses is a UserError that names the key."""
    try:
        return instantiate(OmegaConf.select(cfg, key), _partial_=True, _convert_="all")(*arguments, **settings)
    except (HydraException, OmegaConfBaseException, ValueError, TypeError, OSError) as error:
        raise config.user_error(key, error) from error


def _guarded(trackers: dict[str, Tracker], cfg: DictConfig, named: dict[str, str]) -> list[Guard]:
    """Trackers that a run may be told to; the data must be known, for settings refer to them."""
    about: dict[str, Any] = {
        "experiment": f"{named['data']}-{named['model']}",
        "name": f"{named['method']}/seed={cfg.seed}",
        "warn": _show_warning,
    }
    return [Guard(key, tracker, config=config.to_tell(cfg), **about) for key, tracker in trackers.items()]


def _optimizer(cfg: DictConfig, model: nn.Module, precision: Precision, processes: Processes) -> RadiusRule:
    """Base optimizer, SAM variant and radius rule, one around the other."""
    # torch has no fused SGD of sharded weights.
    unfused = {"fused": False} if processes.shards_weights and cfg.optimizer._target_ == "torch.optim.SGD" else {}
    base = _make(cfg, "optimizer", [p for p in model.parameters() if p.requires_grad], **unfused)
    asked: dict[str, Any] = {}  # the rest is the variant's own affair
    if cfg.grad_clip is not None:
        asked["max_grad_norm"] = cfg.grad_clip
    if cfg.perturbation_sync != "global":
        asked["perturbation_sync"] = cfg.perturbation_sync
    if precision is Precision.fp16:
        asked["loss_scale"] = "dynamic"
    sam = _make(cfg, "sam", base, model=model, **asked)
    if precision is Precision.bf16:
        low, high = sam.rho_bounds
        sam.rho_bounds = max(low, BF16_SMALLEST_RHO), high
    return _make(cfg, "radius", sam)


def _check_radius(cfg: DictConfig, optimizer: RadiusRule, data: Data) -> None:
    if not isinstance(optimizer, FixedRadius) and not optimizer.sam.uses_radius:
        raise UserError("sam=none never perturbs, so there is no radius to choose: take radius=fixed, or another sam")
    if optimizer.sam.shard_size is not None and cfg.accumulate > 1:
        raise UserError(f"accumulate={cfg.accumulate}: m-SAM goes shard by shard already; leave it at 1")
    if optimizer.needs_validation and data.val_fraction == 0:
        raise UserError(
            f"data.val_fraction=0: {type(optimizer).__name__} learns the radius from a validation split; give it a "
            "share of the training set, as in data.val_fraction=0.1, or take radius=fixed"
        )


def _check_batches(cfg: DictConfig, optimizer: RadiusRule, processes: Processes) -> None:
    """That a batch can be cut into as many parts as there are processes, and microbatches or shards in each."""
    if (shard_size := optimizer.sam.shard_size) is None:
        parts, why = processes.size * cfg.accumulate, f"{processes.size} processes x {cfg.accumulate} microbatches"
    else:
        parts, why = processes.size * shard_size, f"{processes.size} processes x shards of {shard_size}"
    for key in ("batch_size", "val_batch_size"):
        of = parts if key == "batch_size" else processes.size * cfg.accumulate
        if cfg[key] is not None and cfg[key] % of:
            raise UserError(f"{key}={cfg[key]}: must be a multiple of {of} ({why})")


def _loaders(
    cfg: DictConfig, data: Data, device: torch.device, processes: Processes, *, channels_last: bool
) -> tuple[Loader, Loader | None, Loader]:
    """Training, validation (None if the split is empty) and test examples, as batches on the device."""
    splits = processes.first(lambda: read_splits(data))
    if cfg.batch_size > len(splits.train):
        raise UserError(f"batch_size={cfg.batch_size}: there are only {len(splits.train)} training examples")

    share = Share(processes.rank, processes.size)

    def loader(examples: Any, batch_size: int, stream: int, *, augmented: bool) -> Loader:
        form: Any = {"device": device, "channels_last": channels_last, "share": share}
        return data.loader(examples, batch_size=batch_size, seed=(cfg.seed, stream), augmented=augmented, **form)

    train = loader(splits.train, cfg.batch_size, 0, augmented=True)
    val_size = min(cfg.val_batch_size or cfg.batch_size, len(splits.val))
    val_size -= val_size % (processes.size * cfg.accumulate)  # all parts of equal size
    val = loader(splits.val, val_size, 1, augmented=True) if val_size else None
    return train, val, loader(splits.test, processes.size, 2, augmented=False)


def read_splits(data: Data) -> Splits:
    """The parts of a data set; a UserError where its files are not what they should be."""
    try:
        return data.splits()
    except (OSError, ValueError) as error:
        raise config.user_error("data", error) from error


def pick_device(name: str) -> torch.device:
    """What `auto` or another name of a device comes to here; a UserError where there is no such device."""
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"device={name}: torch sees no CUDA device here; take device=cpu, or device=auto for what there is"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and launched():
        name = f"cuda:{local_rank()}"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device={name}: torch sees {torch.cuda.device_count()} CUDA devices, numbered from 0")
    return device


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def _precision(asked: Precision, device: torch.device) -> Precision:
    """What `auto` comes to on this device."""
    if asked is not Precision.auto:
        return asked
    if device.type == "cuda":
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        bf16 = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return Precision.bf16 if bf16 else Precision.fp32


def _channels_last(asked: bool | str, precision: Precision, device: torch.device) -> bool:
    return device.type == "cuda" and precision is not Precision.fp32 if asked == "auto" else bool(asked)


def _autocast(device: torch.device, precision: Precision) -> Callable[[], AbstractContextManager]:
    dtype = {Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}.get(precision)
    return nullcontext if dtype is None else lambda: torch.autocast(device.type, dtype=dtype)


def _processes(cfg: DictConfig, device: torch.device) -> Processes:
    """Those that torchrun started, or this one alone."""
    if not launched():
        return ALONE
    if cfg.distributed.sync_batchnorm and device.type != "cuda":
        raise UserError("distributed.sync_batchnorm=true: torch has it on GPUs only; leave it off")
    return Group(cfg.distributed.strategy.value, device, sync_batchnorm=cfg.distributed.sync_batchnorm)
