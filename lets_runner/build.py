"""From a configuration to the parts of a run: the one module that instantiates what a configuration names."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from lets_runner import config, later
from lets_runner.averaging import Averaged, Raw
from lets_runner.config import Precision, UserError
from lets_runner.data import Data, Share, Splits
from lets_runner.data.identity import identity
from lets_runner.distributed import ALONE, Group, Processes, launched, local_rank
from lets_runner.finetune import begin_from, freeze
from lets_runner.optim import FixedRadius, GraphedStep, RadiusRule
from lets_runner.optim.graphs import cuda_graph, graphed
from lets_runner.optim.graphs.eager import EagerStep
from lets_runner.optimizers import by_layer, slow_down
from lets_runner.patience import Patience
from lets_runner.schedules import warmed_up
from lets_runner.signature import annotations, check_settings
from lets_runner.tasks import Task
from lets_runner.trainer import Loader, Trainer

SUITABLE = {  # for targets of each kind
    "classes": "task=classification",
    "numbers": "task=regression",
    "sentences": "task=translation",
}
BF16_SMALLEST_RHO = 1e-2  # below, the change of a gradient drowns in bf16's rounding

# What a constructor says of settings that it cannot use, or what comes of computing with them.
REFUSALS = (
    *(HydraException, OmegaConfBaseException, ValueError, TypeError, OSError),
    *(ArithmeticError, AssertionError, LookupError, MemoryError, RuntimeError),
)


@dataclass
class Parts:
    """What `build` makes of a configuration."""

    data: Data
    trainer: Trainer
    test: Loader
    identity: dict[str, Any]  # of the data, for the process that leads
    inputs: dict[str, Any]  # what the model takes and gives, as `Transform.plain` says it; empty where nobody does
    beginning: str  # what to say about the weights that it begins with; "" of new ones


def build(
    cfg: DictConfig, device: torch.device, processes: Processes = ALONE, *, stand_in: Data | None = None
) -> Parts:
    """Everything a run needs. All settings are tried out before any data is read.

    Args:
        stand_in: is read in place of the configured data set, which is instantiated all the same.
    """
    if cfg.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA's matrix products ask for it
    torch.use_deterministic_algorithms(cfg.deterministic)
    torch.backends.cudnn.benchmark = not cfg.deterministic
    data, task, model = components(cfg, device, pretrained=True)
    beginning = _begin(cfg, model, data.outputs)
    data = stand_in or data
    precision = _precision(cfg.precision, device)
    channels_last = _channels_last(cfg.channels_last, precision, device)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    if cfg.compile:
        model.compile()
    model = processes.wrap(model)
    _freeze(cfg, processes.bare(model))  # batch norms that several processes share are new ones
    config.fill(cfg, total_steps=1)
    trial = _optimizer(cfg, model, precision, processes)
    _schedule(cfg, trial, epoch_steps=1)
    _check_radius(cfg, trial, data)
    _check_batches(cfg, trial, processes)
    _check_examples(task, trial)
    steps = _steps(cfg, trial, data.varying)

    splits = processes.first(lambda: read_splits(data))
    train, val, test = _loaders(cfg, data, splits, device, processes, channels_last=channels_last)
    config.fill(cfg, total_steps=cfg.epochs * len(train))
    optimizer = _optimizer(cfg, model, precision, processes)
    if optimizer.needs_validation and val is None:
        raise UserError(
            f"data.val_fraction={data.val_fraction}: of so few examples that leaves none to learn the radius from"
        )
    if cfg.early_stopping.patience is not None and val is None:
        raise UserError(
            f"early_stopping.patience={cfg.early_stopping.patience}: there are no validation examples to go by; give "
            "it a share of the training set, as in data.val_fraction=0.1"
        )
    if processes.rank > 0:  # its own dropout masks
        torch.manual_seed(int(np.random.SeedSequence([cfg.seed, processes.rank]).generate_state(1)[0]))
    shard_size = optimizer.sam.shard_size
    trainer = Trainer(
        model,
        optimizer,
        scheduler=_schedule(cfg, optimizer, epoch_steps=len(train)),
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
        steps=steps,
        measured=_measured(cfg, processes, model),
        patience=Patience(task.columns.selected, cfg.early_stopping.patience),
    )
    if not processes.leads:
        return Parts(data, trainer, test, {}, {}, beginning)
    return Parts(data, trainer, test, identity(splits), _inputs(data, processes.bare(model)), beginning)


def _inputs(data: Data, model: nn.Module) -> dict[str, Any]:
    """What it takes to use a model without its data set and without what it was pretrained from."""
    if (transform := data.transform) is None:
        return {}
    alone = {"model": model.settings_alone} if hasattr(model, "settings_alone") else {}
    return {**transform.plain(), **alone}


def components(cfg: DictConfig, device: torch.device, *, pretrained: bool = False) -> tuple[Data, Task, nn.Module]:
    """Data set (nothing of it read yet), task and untrained model of a configuration.

    Args:
        pretrained: give the model the weights that its configuration asks for; not where others are loaded later.

    Raises:
        UserError: a constructor refuses its settings.
    """
    data: Data = make(cfg, "data")
    task: Task = make(cfg, "task")
    _check_kinds(data, task)
    torch.manual_seed(cfg.seed)
    model = network(cfg, data.shape, data.outputs, pretrained=pretrained)
    try:
        task.check(model)
    except ValueError as error:
        raise config.user_error("model", error) from error
    _freeze(cfg, model)
    return data, task, model.to(device)


def network(cfg: DictConfig, shape: Any, outputs: int, *, pretrained: bool = False) -> nn.Module:
    """The model that a configuration names for such inputs and so many outputs; raises UserError."""
    takes_weights = "weights" in annotations(cfg.model._target_)
    return make(cfg, "model", shape, outputs, **({"weights": pretrained} if takes_weights else {}))


def _freeze(cfg: DictConfig, model: nn.Module) -> None:
    try:
        freeze(model, own(cfg, "model.freeze"))
    except ValueError as error:
        raise config.user_error("model", error) from error


def _begin(cfg: DictConfig, model: nn.Module, outputs: int) -> str:
    """Give the model the weights of `init_from`, if that is anything; returns what to say of its weights."""
    if cfg.init_from is None:
        return getattr(model, "beginning", "")
    try:
        return begin_from(model, cfg.init_from, outputs=outputs)
    except ValueError as error:
        raise UserError(str(error)) from error


def _measured(cfg: DictConfig, processes: Processes, model: nn.Module) -> Raw:
    """The weights that are measured: the model's, or an average of them."""
    if cfg.ema.decay is None:
        return Raw(model)
    if processes.shards_weights:
        raise UserError(f"ema.decay={cfg.ema.decay}: averages need whole weights; take distributed.strategy=ddp")
    return Averaged(processes.bare(model), cfg.ema.decay)


def _check_kinds(data: Data, task: Task) -> None:
    if data.target_kind and task.target_kind and data.target_kind != task.target_kind:
        raise UserError(
            f"task: {type(task).__name__} predicts {task.target_kind}, and the targets of {type(data).__name__} are "
            f"{data.target_kind}; take {SUITABLE[data.target_kind]}, or another data set"
        )
    if data.mixes and not task.takes_mixed:
        raise UserError(
            f"data.mixup, data.cutmix: {type(task).__name__} needs one class for every example; leave them 0"
        )
    for measure in task.measures:
        if measure.classes not in (None, data.outputs):
            raise UserError(
                f"task.measures: {type(measure).__name__} is made for {measure.classes} classes, and "
                f"{type(data).__name__} has {data.outputs}; leave it out"
            )


def make(cfg: DictConfig, key: str, *arguments: Any, **settings: Any) -> Any:
    """Instantiate one group of the configuration; what its constructor refuses is a UserError that names the key."""
    node = OmegaConf.select(cfg, key)
    if not (isinstance(node, DictConfig) and "_target_" in node):
        raise UserError(f"{key}: must be a mapping with a `_target_`, the class or function to call")
    node = _of_the_constructor(node, key)
    try:
        check_settings(node._target_, config.settings(node))
        return instantiate(node, _partial_=True, _convert_="all")(*arguments, **settings)
    except REFUSALS as error:
        raise config.user_error(key, error) from error


def own(cfg: DictConfig, key: str) -> Any:
    """A setting of the runner's own among those of a component, such as model.freeze; raises UserError."""
    group, _, name = key.partition(".")
    value = OmegaConf.select(cfg, key)
    if value is None or name in annotations(cfg[group]._target_):
        return later.LATER[key]
    plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    try:
        check_settings(later.OWN[key], {name: plain})
    except ValueError as error:
        raise config.user_error(group, error) from error
    return plain


def _of_the_constructor(node: DictConfig, key: str) -> DictConfig:
    """A component's settings without the runner's own."""
    kept = node.copy()
    with open_dict(kept):
        for name in [name for name in map(str, kept) if f"{key}.{name}" in later.OWN]:
            taken = name in annotations(kept._target_)
            if not taken or later.says_nothing(f"{key}.{name}", kept[name]):
                del kept[name]
    return kept


def _schedule(cfg: DictConfig, optimizer: RadiusRule, *, epoch_steps: int) -> Any:
    """The schedule of the learning rates, with its warm-up; every group of weights keeps its share of the rate."""
    before = [group["lr"] for group in optimizer.param_groups]
    schedule = make(cfg, "schedule", optimizer)
    shares = {
        round(group.get("initial_lr", lr) / lr, 6)
        for group, lr in zip(optimizer.param_groups, before, strict=True)
        if lr
    }
    if len(shares) > 1:
        raise UserError(
            f"optimizer.layer_decay={own(cfg, 'optimizer.layer_decay')}: {type(schedule).__name__} gives all weights "
            "one rate; take another schedule, or null"
        )
    warmup = {name: own(cfg, f"schedule.{name}") for name in ("warmup_epochs", "warmup_steps")}
    try:
        return warmed_up(schedule, optimizer, epoch_steps=epoch_steps, **warmup)
    except ValueError as error:
        raise config.user_error("schedule", error) from error


def _optimizer(cfg: DictConfig, model: nn.Module, precision: Precision, processes: Processes) -> RadiusRule:
    """Base optimizer, SAM variant and radius rule, one around the other."""
    # torch has no fused SGD of sharded weights.
    unfused = {"fused": False} if processes.shards_weights and cfg.optimizer._target_ == "torch.optim.SGD" else {}
    decay = own(cfg, "optimizer.layer_decay")
    try:
        params = by_layer(processes.bare(model), layer_decay=decay)
    except ValueError as error:
        raise config.user_error("optimizer", error) from error
    base = make(cfg, "optimizer", params, **unfused)
    slow_down(base, decay)
    asked: dict[str, Any] = {}  # the rest is for the variant to say
    if cfg.grad_clip is not None:
        asked["max_grad_norm"] = cfg.grad_clip
    if cfg.perturbation_sync != "global":
        asked["perturbation_sync"] = cfg.perturbation_sync
    if precision is Precision.fp16:
        asked["loss_scale"] = "dynamic"
    if precision is Precision.bf16:
        asked["smallest_rho"] = BF16_SMALLEST_RHO
    return make(cfg, "radius", make(cfg, "sam", base, model=model, **asked))


def _steps(cfg: DictConfig, optimizer: RadiusRule, varying: str | None = None) -> Callable[..., EagerStep]:
    """How steps of an optimizer like this one are taken: as CUDA graphs, or eagerly.

    Args:
        varying: why batches are of several shapes, where they are: each shape of training and validation batches would
            need a graph of its own.
    """
    device = optimizer.sam.device
    if cfg.graphs is True and (reason := cuda_graph.why_not(device) or graphed.why_not(optimizer) or varying):
        raise UserError(f"graphs=true: {reason}; take graphs=auto for eager steps where it must be")
    if cfg.graphs is not False and device.type == "cuda" and varying is None:
        return partial(GraphedStep, strict=cfg.graphs is True)
    return partial(EagerStep, reason="graphs=false" if cfg.graphs is False else cuda_graph.why_not(device) or varying)


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


def _check_examples(task: Task, optimizer: RadiusRule) -> None:
    """That the loss of the task can be had as the variant needs it."""
    sam = optimizer.sam
    if not task.per_example and (sam.per_sample or sam.splits_batch):
        needs = "shards of equal weight" if sam.splits_batch else "the loss of every example"
        raise UserError(
            f"sam: {type(sam).__name__} needs {needs}, and {type(task).__name__} has a mean over tokens, of which "
            "examples have more and fewer; take another sam"
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
    cfg: DictConfig, data: Data, splits: Splits, device: torch.device, processes: Processes, *, channels_last: bool
) -> tuple[Loader, Loader | None, Loader]:
    """Training, validation (None if the split is empty) and test examples, as batches on the device."""
    if cfg.batch_size > len(splits.train):
        raise UserError(f"batch_size={cfg.batch_size}: there are only {len(splits.train)} training examples")

    def loader(examples: Any, batch_size: int, stream: int, *, augmented: bool) -> Loader:
        share = Share(processes.rank, processes.size, parts=cfg.accumulate if augmented else 1)
        form: Any = {"device": device, "channels_last": channels_last, "share": share}
        try:
            return data.loader(examples, batch_size=batch_size, seed=(cfg.seed, stream), augmented=augmented, **form)
        except ValueError as error:
            raise config.user_error("data", error) from error

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
    """What `auto` or another name of a device comes to here, a CUDA device always by its number.

    The current CUDA device is that one from then on: FSDP2, pinned memory and questions about bf16 go by it.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not name.startswith("cuda"):
        return torch.device(name)
    if not torch.cuda.is_available():
        raise UserError(
            f"device={name}: torch sees no CUDA device here; take device=cpu, or device=auto for what there is"
        )
    device = torch.device(f"cuda:{local_rank() if launched() else 0}" if name == "cuda" else name)
    if device.index >= torch.cuda.device_count():
        raise UserError(f"device={name}: torch sees {torch.cuda.device_count()} CUDA devices, numbered from 0")
    torch.cuda.set_device(device)
    return device


def device_name(device: torch.device) -> str:
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


def measuring(cfg: DictConfig, device: torch.device) -> tuple[Callable[[], AbstractContextManager], bool]:
    """How a run measures on this device: the context of its forward passes, and whether channels come last."""
    precision = _precision(Precision(cfg.precision), device)
    return _autocast(device, precision), _channels_last(cfg.channels_last, precision, device)


def processes_of(cfg: DictConfig, device: torch.device) -> Processes:
    """Those that torchrun started, or this one alone."""
    if not launched():
        return ALONE
    if cfg.distributed.sync_batchnorm and device.type != "cuda":
        raise UserError("distributed.sync_batchnorm=true: torch has it on GPUs only; leave it off")
    return Group(cfg.distributed.strategy.value, device, sync_batchnorm=cfg.distributed.sync_batchnorm)
