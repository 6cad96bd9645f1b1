"""Train in a run directory: resume, record, checkpoint, handle signals, summarise."""

import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lets_runner import slurm
from lets_runner.columns import Columns, written
from lets_runner.console import say
from lets_runner.report.curves import draw_curves
from lets_runner.run.directory import DamagedError, Run
from lets_runner.run.files import CURVES, read_summary
from lets_runner.run.progress import shown
from lets_runner.run.summary import progress as progress_of
from lets_runner.run.summary import result
from lets_runner.trackers.guard import Guard
from lets_runner.trainer import Loader, Trainer

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
        progress: show on standard error how far it is.
        trackers: get everything that is written down; nothing depends on them.

    Raises:
        NonFiniteError, OSError: training diverged, or data could not be read; the last checkpoint is intact.
        UnwritableError: of the run directory.
        DamagedError: there is no sound checkpoint to go on from.
        SystemExit: a signal ended training early, with the exit code that is usual for it.
    """
    _resume(run, trainer)
    for tracker in trackers:
        tracker.start(run.directory, step=trainer.step)
    try:
        with _signals(trainer) as received:
            try:
                _record(run, trainer, facts, progress=progress, trackers=trackers)
                measured = _tested(trainer, test)
                texts = _said(trainer) if measured else {}
                trainer.processes.only(lambda: _conclude(run, trainer, measured, texts, facts))
            except BaseException as error:
                _note(run, trainer, error, facts)
                raise
            _draw(run.directory, run.columns)
            _announce(run.directory, trainer)
    finally:  # outside of `_signals`: everything is on disk, so a signal may end the process
        for tracker in trackers:
            tracker.finish(read_summary(run.directory))
        for tracker in trackers:  # all at once: what one is waited for, the others have too
            tracker.wait()
    if trainer.stopping:
        _pass_on(received)


def follow(trainer: Trainer, test: Loader) -> None:
    """What a process does that does not lead: the same steps and measurements, and writes nothing."""
    _resume(None, trainer)
    with _signals(trainer) as received:
        for record in trainer.records():
            if record.checkpoint:
                trainer.state_dict()
    if _tested(trainer, test):
        _said(trainer)
    trainer.processes.only(lambda: None)  # until everything is written
    if trainer.stopping:
        _pass_on(received)


def again(directory: Path, summary: dict[str, Any]) -> None:
    """What the same command does of a run that has finished: say so, and draw the picture if it is missing.

    Raises:
        DamagedError: the summary says finished, and not how.
    """
    try:
        text, columns = result(summary), written(summary)
    except (ValueError, TypeError) as error:
        raise DamagedError(
            f"{directory / 'summary.json'} is damaged ({error}): put back what was there, or remove "
            f"{directory / 'summary.json'}, and the same command measures the test set again"
        ) from error
    if not (directory / CURVES).exists():
        _draw(directory, columns)
    say(f"already finished: {text} in {directory}")


def _resume(run: Run | None, trainer: Trainer) -> None:
    """Go on from the checkpoint of `run`, if there is one; None in a process that does not lead."""

    def newest() -> dict[str, Any] | None:
        return None if run is None else run.load(trainer.check, epoch_steps=len(trainer.train))

    state = trainer.processes.share(newest)
    if state is None:
        return
    try:
        trainer.load_state_dict(state)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if run is None:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DamagedError(
            f"the checkpoint in {run.directory} is of another version, {state.get('version', 'before 0.1.0')}, or "
            f"damaged ({reason}): put back what was there, or remove {run.checkpoints} to start over"
        ) from error


def _record(run: Run, trainer: Trainer, facts: dict[str, Any], *, progress: bool, trackers: Sequence[Guard]) -> None:
    """Write down what the trainer yields, and keep checkpoints."""
    run.summarise(status="running", error=None, **facts)
    with shown(run.columns.selected, total=trainer.total_steps, done=trainer.step, wanted=progress) as show:
        for record in trainer.records():
            run.append(record)
            for tracker in trackers:
                tracker.log(record)
            if record.checkpoint:
                run.save(trainer.state_dict(), best=record.epoch is not None and run.best_is_last)
            show(record)


@contextmanager
def _signals(trainer: Trainer) -> Iterator[list[int]]:
    """The first of `SIGNALS` ends training after the present step; a second one is not waited for."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def stop(number: int, frame: Any) -> None:
        received.append(number)
        trainer.stop()
        restore()
        if number == signal.SIGINT:  # whatever it was before, so that a second one is noted in the summary
            signal.signal(number, signal.default_int_handler)

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
    """The test set is read here, once, if training came to its end; nothing if it did not.

    Raises:
        FloatingPointError: not one step of training was taken.
    """
    if not trainer.ended:
        return {}
    trainer.stopping = False  # a signal during the last step changes nothing any more
    if trainer.optimizer.sam.skipped >= trainer.step:
        raise FloatingPointError(
            f"all {trainer.step} steps were skipped: every loss or gradient was non-finite, and nothing was learned; "
            "sam.nonfinite=raise says where it begins, a lower learning rate or precision=fp32 may help"
        )
    return {f"test_{name}": value for name, value in trainer.measure(test, "test").items()}


def _said(trainer: Trainer) -> dict[int, str]:
    """What the model said of the test examples of all processes, where it says anything."""
    return {number: text for texts in trainer.processes.gather(trainer.texts) for number, text in texts.items()}


def _conclude(
    run: Run, trainer: Trainer, measured: dict[str, float], texts: dict[int, str], facts: dict[str, Any]
) -> None:
    """The last that can fail of a run: what comes after this undoes nothing."""
    if texts:
        run.write_hypotheses(texts)
    status = "finished" if measured else "interrupted"
    run.summarise(status=status, error=None, **facts, **progress_of(run, trainer), **measured)


def _note(run: Run, trainer: Trainer, error: BaseException, facts: dict[str, Any]) -> None:
    """Why a run ended early, as far as that can be written."""
    if read_summary(run.directory, status="finished"):
        return
    status = "failed" if isinstance(error, Exception) else "interrupted"
    try:
        known = progress_of(run, trainer)
    except Exception:  # a device that failed says nothing any more
        known = {}
    with suppress(OSError):
        run.summarise(status=status, error=str(error) or type(error).__name__, **facts, **known)


def _draw(directory: Path, columns: Columns) -> None:
    try:
        draw_curves(directory, columns)
    except Exception as error:  # whatever goes wrong with a picture
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        warnings.warn(f"{CURVES} is not drawn ({reason})", stacklevel=2)


def _announce(directory: Path, trainer: Trainer) -> None:
    if summary := read_summary(directory, status="finished"):
        say(f"{result(summary)} in {directory}")
    else:
        say(f"stopped at step {trainer.step} of {trainer.total_steps}; the same command goes on, in {directory}")
