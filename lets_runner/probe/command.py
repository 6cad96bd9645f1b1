"""`lets-probe`: how flat the minima of finished or stopped runs are. Rebuilds each from its `config.yaml`.

run directories -> configuration and checkpoint -> objective -> what is missing of the record -> `probe/`.
"""

import sys
from argparse import Namespace
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as pytree

from lets_runner import build
from lets_runner.config import UserError
from lets_runner.data import Data
from lets_runner.probe.landscape import filter_normalised, landscape
from lets_runner.probe.objective import Examples, Objective
from lets_runner.probe.options import options
from lets_runner.probe.record import Record
from lets_runner.probe.sharpness import sharpness
from lets_runner.restore import find_runs, fingerprint, put, read_config, read_state
from lets_runner.run.environment import environment

EXTRA = "hessian: needs an extra: pip install 'lets_runner[probe]', or leave it out with --only sharpness landscape"

PARSER = options()
say = PARSER.say


def main() -> None:
    """The console script. A run that cannot be probed is one line on standard error, and the others go on."""
    torch.backends.cudnn.allow_tf32 = False  # ten bits of mantissa are too few for second derivatives
    asked = PARSER.parse_args()
    PARSER.warn_in_lines()
    failures = 0
    try:
        device = build.pick_device(asked.device)
        _check_extra(asked.only)
        directories = list(dict.fromkeys(run for path in asked.runs for run in find_runs(path)))
    except UserError as error:
        sys.exit(PARSER.complain(str(error)))
    for directory in directories:
        try:
            probe(directory, asked, device)
        except UserError as error:
            failures = PARSER.complain(f"{directory}: {error}")
    sys.exit(failures)


def probe(directory: Path, asked: Namespace, device: torch.device) -> None:
    """Measure one run, and say so part by part; what its record has already is left alone.

    Raises:
        UserError: it cannot be probed; what was measured until then is written down.
    """
    cfg = read_config(directory)
    data, task, model = build.components(cfg, device)
    if not task.per_example:
        raise UserError(f"{type(task).__name__} has no loss of its own for every example, which is what is probed")
    state = read_state(directory, asked.checkpoint)
    put(model, state, f"checkpoints/{asked.checkpoint}.pt")
    examples = _examples(data, asked, device)
    if asked.double:
        model, examples = (
            model.double(),
            pytree.tree_map(lambda c: c.double() if c.is_floating_point() else c, examples),
        )
    objective = Objective(model, task, examples, batch_size=asked.batch_size)
    measured = objective.measure()
    if not np.isfinite(measured["loss"]):
        raise UserError(f"the loss at step {state['step']} is not finite: training has diverged, nothing to probe")
    facts = _facts(objective, asked, step=state["step"], **measured)
    say(f"{directory}: step {facts['step']}, {len(objective)} {asked.split} examples, batch norm in evaluation mode")
    say("  " + ", ".join(f"{column.words} {column.show(measured[column.name])}" for column in task.columns.all))
    record = Record(directory, facts)
    if record.outdated:
        say("  what probe/ has was measured with other settings or weights, and gives way")
    for part in asked.only:
        _measure(part, objective, record, asked)


def _measure(part: str, objective: Objective, record: Record, asked: Namespace) -> None:
    if record.has(part, settings := _settings(part, asked)):
        say(f"  {part}: measured before")
        return
    try:
        MEASURES[part](objective, record, settings, asked.seed)
    except torch.OutOfMemoryError as error:
        raise UserError(f"{part}: out of memory; take a smaller --batch-size than {asked.batch_size}") from error
    except ValueError as error:
        raise UserError(f"{part}: {error}") from error


def _hessian(objective: Objective, record: Record, settings: dict[str, Any], seed: int) -> None:
    from lets_runner.probe.hessian import Hessian

    hessian = Hessian(objective, seed=seed)
    eigenvalues = hessian.top_eigenvalues(settings["eigenvalues"])
    trace, error = hessian.trace(settings["trace_samples"])
    results = {"hessian_eigenvalues": eigenvalues, "hessian_trace": trace, "hessian_trace_error": error}
    record.add("hessian", settings, results)
    say(f"  hessian: top eigenvalues {', '.join(f'{e:.4g}' for e in eigenvalues)}; trace {trace:.4g} ± {error:.2g}")


def _sharpness(objective: Objective, record: Record, settings: dict[str, Any], seed: int) -> None:
    form = {"m": settings["m"], "steps": settings["ascent_steps"]}
    plain = {f"{rho:g}": sharpness(objective, rho, **form) for rho in settings["rho"]}
    adaptive = {f"{rho:g}": sharpness(objective, rho, adaptive=True, **form) for rho in settings["adaptive_rho"]}
    record.add("sharpness", settings, {"m_sharpness": plain, "adaptive_sharpness": adaptive})
    for name, values in {"m-sharpness": plain, "adaptive sharpness": adaptive}.items():
        say(f"  {name}: " + ", ".join(f"{value:.4g} at {rho}" for rho, value in values.items()))


def _landscape(objective: Objective, record: Record, settings: dict[str, Any], seed: int) -> None:
    directions = [filter_normalised(objective.params, seed=(seed, number)) for number in range(2)]
    along, across = settings["grid"]
    curve = landscape(objective, directions[:1], points=along, span=settings["span"])
    surface = landscape(objective, directions, points=across, span=settings["span"])
    record.add_landscapes(settings, curve, surface, score=objective.task.columns.score)
    say(f"  landscape: loss up to {curve['loss'].max():.4g} on the curve, {surface['loss'].max():.4g} on the surface")


MEASURES = {"hessian": _hessian, "sharpness": _sharpness, "landscape": _landscape}


def _settings(part: str, asked: Namespace) -> dict[str, Any]:
    """What makes a part what it is, beside what all have in common."""
    names = {
        "hessian": ("eigenvalues", "trace_samples"),
        "sharpness": ("m", "ascent_steps", "rho", "adaptive_rho"),
        "landscape": ("grid", "span"),
    }
    return {name: getattr(asked, name) for name in names[part]}


def _facts(objective: Objective, asked: Namespace, **measured: Any) -> dict[str, Any]:
    used = environment()
    used["versions"] |= {"scipy": version("scipy")}
    if "hessian" in asked.only:
        used["versions"] |= {"curvlinops": version("curvlinops-for-pytorch")}
    return {
        "checkpoint": asked.checkpoint,
        "weights": fingerprint(objective.model.state_dict()),
        "split": asked.split,
        "examples": len(objective),
        "batch_norm": "eval",
        "seed": asked.seed,
        "double": asked.double,
        **measured,
        **used,
    }


def _examples(data: Data, asked: Namespace, device: torch.device) -> Examples:
    """Inputs and labels of the seeded subset, in random order, as the run has them: labels noisy, nothing augmented."""
    part = getattr(build.read_splits(data), asked.split)
    if not len(part):
        raise UserError(f"--split {asked.split}: this run has none (data.val_fraction=0); take --split train")
    chosen = np.random.default_rng(asked.seed).permutation(len(part))[: asked.examples]
    loader = data.loader(part[torch.from_numpy(chosen)], batch_size=1, seed=(0,), device=device, augmented=False)
    with closing(data):
        try:
            batches = list(loader.in_order())
        except OSError as error:
            raise UserError(str(error)) from error
    return pytree.tree_map(_joined, *batches)


def _joined(*columns: Tensor) -> Tensor:
    """Rows below each other; those of texts, which are as long as the longest of a batch, with zeros behind."""
    if columns[0].ndim == 2:
        widest = max(column.shape[1] for column in columns)
        columns = tuple(functional.pad(column, (0, widest - column.shape[1])) for column in columns)
    return torch.cat(columns)


def _check_extra(parts: list[str]) -> None:
    if "hessian" in parts:
        try:
            import lets_runner.probe.hessian  # noqa: F401
        except ModuleNotFoundError as error:
            raise UserError(EXTRA) from error
