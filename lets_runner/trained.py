"""A trained model: from a run directory, or from what `lets-export` made of one, to a network that predicts."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from lets_runner import build
from lets_runner.config import UserError, user_error
from lets_runner.data import Transform, transform_of
from lets_runner.extra import missing
from lets_runner.restore import checked_config, put, read_config, read_state
from lets_runner.run.files import CONFIG, INPUTS, SUMMARY, read_summary
from lets_runner.tasks import Task, Translation

SUFFIX = ".safetensors"
CHECKPOINTS = ("best", "last")
KEY = "lets_runner"  # of the metadata in such a file


@dataclass(frozen=True)
class Trained:
    """What `load` gives.

    Args:
        model: the network that was trained, in evaluation mode; its `state_dict` has the names of the checkpoint.
        transform: from images, rows or texts to what `model` takes; None where the data set does not say.
        task: the loss and the measures of the run.
        config: the run's whole configuration, as nested mappings.
        summary: what `summary.json` says.
        step: optimizer steps that the weights have had.
        checkpoint: "best" or "last".
        inputs: what `inputs.json` says, of which `transform` was made.
    """

    model: nn.Module
    transform: Transform | None
    task: Task
    config: dict[str, Any]
    summary: dict[str, Any]
    step: int
    checkpoint: str
    inputs: dict[str, Any]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """In the order of the model's outputs; None where there are no classes, or nobody wrote down their names."""
        return None if self.transform is None else self.transform.class_names

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.no_grad()
    def predict(self, examples: Any) -> Any:
        """What the model says of one example or of several, as people have them; see the class of `transform`.

        Returns:
            The scores of every class (B, classes), before any softmax; numbers (B, K) in the units of the table; or of
            sentences their translations, a list of strings.

        Raises:
            ValueError: they are not what the model takes.
        """
        if self.transform is None:
            raise ValueError("this run has not written down what its model takes: give `model` a batch of tensors")
        batch = self.transform(examples, device=self.device)
        if isinstance(self.task, Translation):
            return self.task.translations(self.model, batch)
        return self.transform.restore(self.model(batch).float())


def load(run: str | Path, checkpoint: str = "best", device: str | torch.device | None = None) -> Trained:
    """A trained model, ready to predict. Needs nothing but the run: not the data set, nor what it was pretrained from.

    A run's configuration says which classes are instantiated: load what you would also train. Weights are data; nothing
    in a file is unpickled that is more, and checksums are verified.

    Args:
        run: a run directory, or a .safetensors file that lets-export made of one.
        checkpoint: "best" by validation, or "last", which tables show; a file has but one.
        device: where the model goes; None for a GPU if there is one.

    Raises:
        ValueError: it is no run, has no such checkpoint, or is damaged; in one line.
    """
    path = Path(run).expanduser()
    if checkpoint not in CHECKPOINTS:
        raise ValueError(f"checkpoint={checkpoint!r}: must be best or last")
    try:
        place = build.pick_device(str(device or "auto"))
        return _of_file(path, place) if path.suffix == SUFFIX else _of_run(path, checkpoint, place)
    except UserError as error:
        raise ValueError(f"{path}: {error}") from error


def _of_run(directory: Path, checkpoint: str, device: torch.device) -> Trained:
    if not directory.is_dir():
        raise UserError("there is no such run directory")
    if not ((directory / CONFIG).exists() or (directory / SUMMARY).exists()):
        raise UserError("is no run directory; give one that lets-train has written, such as .../seed=0")
    cfg = read_config(directory)
    state = read_state(directory, checkpoint)
    facts = {"checkpoint": checkpoint, "step": state["step"], "summary": read_summary(directory)}
    return _made(cfg, _inputs(directory / INPUTS), state, device, facts)


def _of_file(path: Path, device: torch.device) -> Trained:
    """A file of safetensors, whose metadata are those of `metadata`."""
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise UserError(str(missing("safetensors", "export"))) from error
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            facts = json.loads((file.metadata() or {})[KEY])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        cfg = checked_config(OmegaConf.create(facts.pop("config")))
        inputs = facts.pop("inputs")
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise UserError(f"is no file that lets-export has written ({type(error).__name__}: {error})") from error
    about = {name: facts[name] for name in ("checkpoint", "step", "summary")}
    return _made(cfg, inputs, {"model": weights}, device, about)


def _inputs(path: Path) -> dict[str, Any]:
    """What the run wrote down; empty where it is older than that."""
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"{path.name} cannot be read ({error}); put back what was there, or remove it") from error


def _made(
    cfg: DictConfig, inputs: dict[str, Any], state: dict[str, Any], device: torch.device, facts: dict[str, Any]
) -> Trained:
    try:
        transform = transform_of(inputs) if inputs else None
    except ValueError as error:
        raise UserError(f"{INPUTS} cannot be used: {error}") from error
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    with torch.random.fork_rng(devices=[]):
        task: Task = build.make(cfg, "task")
        model = _network(cfg, transform, inputs.get("model", {}))
    put(model, state, f"the checkpoint {facts['checkpoint']}")
    if transform is None:
        transform = _of_data(cfg)
    return Trained(model.to(device).eval(), transform, task, plain, inputs=inputs, **facts)


def _network(cfg: DictConfig, transform: Transform | None, alone: dict[str, Any]) -> nn.Module:
    """The untrained network, made without what it was pretrained from; where that is known, without the data set."""
    cfg = cfg.copy()
    with open_dict(cfg):
        cfg.model.update(alone)
    if transform is not None:
        return build.network(cfg, transform.input_shape, transform.outputs)
    data = build.make(cfg, "data")
    return build.network(cfg, data.shape, data.outputs)


def _of_data(cfg: DictConfig) -> Transform | None:
    """The transform of a run that has written none: what its data set says without being read."""
    try:
        return build.make(cfg, "data").transform
    except (OSError, ValueError) as error:
        raise user_error("data", error) from error
