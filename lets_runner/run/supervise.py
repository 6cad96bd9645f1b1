"""Take a trainer through its run directory: resume, record, checkpoint, heed signals, sum up."""

import math
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from lets_runner import slurm
from lets_runner.columns import PARTS, Column, written
from lets_runner.report.curves import draw_curves
from lets_runner.run.directory import Run
from lets_runner.run.environment import peak_memory
from lets_runner.run.files import read_summary
from lets_runner.trackers.guard import Guard
from lets_runner.trainer import Loader, Record, Trainer

# SIGINT: a person; SIGTERM: a machine that goes down, or torchrun; SIGUSR1 and 2: a queue, some time before it does.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def supervise(
    run: Run,
    trainer: Trainer,
    test: Loader,
    facts: dict[str, Any],
    *,
    progress: bool,
    trackers: Sequence[Guard] = (),
) -> None:
    """Train to the end, or on from the last checkpoint, and write everything down.

    Args:
        run: an opened run directory.
        trainer: at its beginning; it goes on from the checkpoint if there is one.
        test: measured once, after the last epoch.
        facts: what the summary says beside the results.
        progress: show a bar on standard error.
        trackers: told of everything that is written down; nothing depends on them.

    Raises:
        NonFiniteError, OSError: training diverged, or data could not be read; the last checkpoint is intact.
        SystemExit: a signal ended training early, with the exit code that is usual for it.
    """
    if (state := trainer.processes.share(run.load)) is not None:
        trainer.load_state_dict(state)
    for tracker in trackers:
        tracker.start(run.directory, step=trainer.step)
    try:
        with _signals(trainer) as received:
            try:
                _record(run, trainer, facts, progress=progress, trackers=trackers)
                measured = _tested(trainer, test)
                trainer.processes.only(lambda: _finish(run, trainer, measured, facts))
            except BaseException as error:
                status = "failed" if isinstance(error, Exception) else "interrupted"
                text = str(error) or type(error).__name__
                run.summarise(status=status, error=text, **facts, **_progress(run, trainer))
                raise
    finally:  # outside of `_signals`: everything is on disk, and whoever wants to go may
        for tracker in trackers:
            tracker.finish(read_summary(run.directory))
    if trainer.stopping:
        _pass_on(received)


def follow(trainer: Trainer, test: Loader) -> None:
    """What a process does that does not lead: the same steps and measurements, and writes nothing."""
    if (state := trainer.processes.share(lambda: None)) is not None:
        trainer.load_state_dict(state)
    with _signals(trainer) as received:
        for record in trainer.records():
            if record.checkpoint:
                trainer.state_dict()
    _tested(trainer, test)
    trainer.processes.only(lambda: None)  # until everything is written
    if trainer.stopping:
        _pass_on(received)


def _record(run: Run, trainer: Trainer, facts: dict[str, Any], *, progress: bool, trackers: Sequence[Guard]) -> None:
    """Write down what the trainer yields, and keep checkpoints."""
    run.summarise(status="running", error=None, **facts)
    with tqdm(
        total=trainer.total_steps, initial=trainer.step, unit="step", disable=not progress, dynamic_ncols=True
    ) as bar:
        for record in trainer.records():
            run.append(record)
            for tracker in trackers:
                tracker.log(record)
            if record.checkpoint:
                run.save(trainer.state_dict(), best=record.epoch is not None and run.best_is_last)
            _show(bar, record, run.columns.selected)


def _show(bar: tqdm, record: Record, column: Column) -> None:
    text = ""
    if record.steps:
        text = "loss {loss:.3f}, rho {rho:.4g}".format(**record.steps[-1])
    if record.epoch is not None:
        values = {part: record.epoch[f"{part}_{column.name}"] for part in PARTS[:2] if part in column.when}
        text += f", {column.words} {', '.join(f'{column.show(value, 1)} {part}' for part, value in values.items())}"
    bar.set_postfix_str(text, refresh=False)
    bar.update(record.step - bar.n)


@contextmanager
def _signals(trainer: Trainer) -> Iterator[list[int]]:
    """The first of `SIGNALS` ends training after the present step; a second one is not waited for."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def stop(number: int, frame: Any) -> None:
        received.append(number)
        trainer.stop()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        restore()


def _pass_on(received: list[int]) -> None:
    """Everything is saved: have the job queued again if its time is up, and end as the signal would have ended it.

    Whoever had a handler for it before (submitit has, to queue a job again) gets it now.

    Raises:
        SystemExit: with the exit code that is usual for the signal; of another process's signal, SIGTERM's.
    """
    number = received[0] if received else signal.SIGTERM
    if number != signal.SIGINT and callable(signal.getsignal(number)):
        os.kill(os.getpid(), number)
    elif slurm.time_is_up(number):
        slurm.requeue()
    raise SystemExit(128 + number)


def _tested(trainer: Trainer, test: Loader) -> dict[str, float]:
    """The test set is read here, once, if training came to its end; nothing if it did not."""
    if trainer.step < trainer.total_steps:
        return {}
    trainer.stopping = False  # a signal during the last step changes nothing any more
    return {f"test_{name}": value for name, value in trainer.measure(test).items()}


def _finish(run: Run, trainer: Trainer, measured: dict[str, float], facts: dict[str, Any]) -> None:
    if not measured:
        run.summarise(status="interrupted", error=None, **facts, **_progress(run, trainer))
        draw_curves(run.directory, run.columns)
        print(f"stopped at step {trainer.step} of {trainer.total_steps}; the same command goes on, in {run.directory}")
        return
    summary = {"status": "finished", "error": None, **facts, **_progress(run, trainer), **measured}
    run.summarise(**summary)
    draw_curves(run.directory, run.columns)
    print(f"{result(summary)} in {run.directory}")


def _progress(run: Run, trainer: Trainer) -> dict[str, Any]:
    """What a summary says of how far a run came and what that cost."""
    last = (run.epochs() or [{}])[-1]
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
        "seconds": trainer.seconds,
        "peak_memory": peak_memory(trainer.device),
    }


def result(summary: dict[str, Any]) -> str:
    """A finished run in a line."""
    column = written(summary).selected
    text = f"test {column.words} {column.show(_number(summary, f'test_{column.name}'))}"
    val = _number(summary, f"val_{column.name}")
    if not math.isnan(val):
        text += f" (validation {column.show(val)})"
    start, rho = _number(summary, "rho_start"), _number(summary, "rho")
    if not math.isnan(rho):
        text += f", rho {rho:.4g}" if math.isnan(start) else f", rho {start:.4g} -> {rho:.4g}"
    return text


def score(summary: dict[str, Any]) -> float | None:
    """What a sweeper maximises: the selected number on validation, negative where less is better; None without one."""
    column = written(summary).selected
    value = _number(summary, f"val_{column.name}")
    return None if math.isnan(value) else column.sign * value


def _number(summary: dict[str, Any], name: str) -> float:
    value = summary.get(name)
    return float("nan") if value is None else float(value)
