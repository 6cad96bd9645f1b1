"""What a run says of itself in `summary.json`, and what others read in it."""

import math
from collections.abc import Mapping
from typing import Any

from lets_runner.columns import PARTS, written
from lets_runner.run.directory import Run
from lets_runner.run.environment import peak_memory
from lets_runner.trainer import Trainer


def progress(run: Run, trainer: Trainer) -> dict[str, Any]:
    """How far a run came and what that cost."""
    last = run.last_epoch
    sam = trainer.optimizer.sam
    return {
        "epochs": int(last.get("epoch", 0)),
        "step": trainer.step,
        "columns": run.columns.plain(),
        **{name: last.get(name) for part in PARTS[:2] for name in run.columns.of(part)},
        "gap": last.get("gap"),
        "rho": float(trainer.optimizer.last.rho),
        "gradient_evaluations": sam.gradient_evaluations,
        "perturbed_share": sam.perturbed_steps / max(1, sam.steps),
        "skipped_steps": sam.skipped,
        "eager_because": trainer.eager_because,
        **({"stopped_early": trainer.patience.plain()} if trainer.patience.is_out else {}),
        **({"measured": trainer.measured.words} if trainer.measured.words else {}),
        "seconds": trainer.seconds,
        "peak_memory": peak_memory(trainer.device),
    }


def result(summary: Mapping[str, Any]) -> str:
    """A finished run in a line.

    Raises:
        ValueError, TypeError: the summary is none that a run has written.
    """
    columns = written(summary)
    column = columns.selected
    text = f"test {column.words} {column.show(_number(summary, f'test_{column.name}'))}"
    val = _number(summary, f"val_{column.name}")
    if not math.isnan(val):
        text += f" (validation {column.show(val)})"
    for other in columns.scores:
        if other.when == PARTS[2:] and other != column:
            text += f", {other.words} {other.show(_number(summary, f'test_{other.name}'))}"
    start, rho = _number(summary, "rho_start"), _number(summary, "rho")
    if not math.isnan(rho):
        text += f", rho {rho:.4g}" if math.isnan(start) else f", rho {start:.4g} -> {rho:.4g}"
    if isinstance(early := summary.get("stopped_early"), Mapping):
        text += f", stopped early after epoch {summary['epochs']}, {early['patience']} after the best"
    if skipped := summary.get("skipped_steps"):
        text += f", {skipped} of {summary['step']} steps skipped"
    return text


def score(summary: Mapping[str, Any]) -> float | None:
    """What a sweeper maximises: the selected number on validation, negative where less is better; None without one."""
    column = written(summary).selected
    value = _number(summary, f"val_{column.name}")
    return None if math.isnan(value) else column.sign * value


def _number(summary: Mapping[str, Any], name: str) -> float:
    value = summary.get(name)
    return float("nan") if value is None else float(value)
