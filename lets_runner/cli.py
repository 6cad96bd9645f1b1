"""`lets-train`: from the command line to a run directory.

conf -> compose -> check -> build everything -> for every record: write it down -> summary and curves.
"""

import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lets_runner import config, rerun, slurm
from lets_runner.build import build, device_name, make, pick_device, processes_of
from lets_runner.config import OwnError, TakenError, UserError
from lets_runner.console import complain, warn
from lets_runner.data import BrokenImage
from lets_runner.data.identity import check_same
from lets_runner.distributed import OtherProcessFailed, part, rank
from lets_runner.interrupt import accepted
from lets_runner.messages import is_about_groups, one_line
from lets_runner.optim import NotGraphableError
from lets_runner.run.directory import DamagedError, Run
from lets_runner.run.environment import environment, reset_peak_memory
from lets_runner.run.files import UnwritableError, read_summary
from lets_runner.run.summary import score
from lets_runner.run.supervise import again, follow, supervise
from lets_runner.sweep import mark, search
from lets_runner.trackers import Guard, Tracker

HERE = Path(__file__).resolve().parent
CONF = next((folder for folder in (HERE / "conf", HERE.parent / "conf") if folder.is_dir()), HERE / "conf")


def main() -> None:
    """The console script: what the user can fix is one line on standard error, not a traceback."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    config.register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions on instead of printing them
    failures: list[BaseException] = []
    try:
        name, sys.argv[1:] = rerun.primary([config.quoted(word) for word in sys.argv[1:]], CONF)
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(partial(_job, failures, sys.argv[1:]))()
    except UserError as error:  # before a run had begun, in a sweep
        failures.append(error)
        _complain(error)
    except UnwritableError as error:
        failures.append(UserError(str(error)))
        _complain(error)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if isinstance(error, ValueError) and not is_about_groups(error):
            raise
        failures.append(UserError(one_line(error, sys.argv[1:])))
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


def _complain(error: BaseException, place: str = "") -> None:
    if rank() > 0 and not isinstance(error, OwnError):
        return  # the leading process says it
    complain(f"{place}{error}")


def _show_warning(message: Warning | str, *_: Any) -> None:
    warn(str(message))


def _job(failures: list[BaseException], words: list[str], cfg: DictConfig) -> float | None:
    """One run; a failure is reported at once and kept for the exit code, and in a sweep the other runs go on.

    Returns what the task selects by on validation, for sweepers that want a number: more is better.
    """
    config.register()  # some launchers take it to another process
    slurm.as_torchrun()
    with accepted() as begin:
        return _run(failures, words, cfg) if begin else None
    return None  # interrupted, and saved


def _run(failures: list[BaseException], words: list[str], cfg: DictConfig) -> float | None:
    job = HydraConfig.get()
    sweep = job.mode == RunMode.MULTIRUN
    named = config.names(job.runtime.choices)
    try:
        directory = config.run_directory(cfg, named)
    except UserError as error:
        failures.append(error)
        _complain(error)
        return None
    try:
        with _in_one_line():
            if sweep:
                mark(directory)
            train(cfg, directory, named, search(job.sweeper, words) if sweep else {})
        return score(read_summary(directory))
    except (UserError, FloatingPointError) as error:
        failures.append(error)
        _complain(error, f"{directory}: " if sweep else "")
        if sweep and not isinstance(error, TakenError):
            _leave_note(directory, str(error), seed=cfg.seed)
        return None
    except OtherProcessFailed as error:
        if not sweep:
            raise
        failures.append(error)  # and on to the next run, as the leading process does
        return None
    except Exception as error:
        if sweep:
            _leave_note(directory, repr(error), seed=cfg.seed)
            traceback.print_exc()  # a sweep otherwise reports only how many failed
        raise


def _leave_note(directory: Path, text: str, *, seed: int) -> None:
    """A refused run of a sweep leaves its reason where its results would be; never over a run that has some."""
    if rank() == 0 and "step" not in read_summary(directory):
        with suppress(OSError):
            Run(directory, config="").summarise(status="failed", error=text, seed=seed)


def train(
    cfg: DictConfig, directory: Path, named: dict[str, str], more: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Train one configuration to its end, or on from where it stopped; `named` and `more` go into the summary.

    Raises:
        UserError: before anything is written, if the configuration cannot be run; later, at an image that cannot be
            read: the last checkpoint is intact.
        NonFiniteError: training diverged; the last checkpoint is intact.
    """
    config.check(cfg)
    device = pick_device(cfg.device)
    processes = processes_of(cfg, device)
    if finished := processes.share(lambda: read_summary(directory, status="finished")):
        if processes.leads:
            with _in_one_line():
                again(directory, finished)
        return
    reset_peak_memory(device)
    trackers = {key: make(cfg, f"logger.{key}") for key in cfg.logger}
    parts = build(cfg, device, processes)
    rerun.check_steps(cfg)
    columns = parts.trainer.task.columns
    run = Run(directory, config.to_yaml(cfg), columns=columns, test_columns=cfg.test_each_epoch, seed=cfg.seed)
    facts = {
        **named,
        **more,
        "seed": cfg.seed,
        "data_identity": parts.identity,
        "rho_start": cfg.sam.get("rho") if parts.trainer.optimizer.starts_from_rho else None,
        "device": device_name(device),
        "processes": processes.size,
        **({"beginning": parts.beginning} if parts.beginning else {}),
        **({"signatures": dict(found)} if (found := parts.trainer.task.signatures) else {}),
        **environment(),
    }
    with _in_one_line(), run, closing(parts.data):
        processes.only(lambda: _open(run, parts.identity, parts.inputs))
        if processes.leads:
            if parts.beginning and not run.resumes:
                complain(parts.beginning)
            guards = _guarded(trackers, cfg, named)
            supervise(run, parts.trainer, parts.test, facts, progress=cfg.progress, trackers=guards)
        else:
            follow(parts.trainer, parts.test)


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Turn what a user can fix into a UserError."""
    try:
        yield
    except (BrokenImage, UnwritableError) as error:
        raise OwnError(str(error)) from error
    except DamagedError as error:
        raise UserError(str(error)) from error
    except NotGraphableError as error:
        raise UserError(f"graphs=true: {error}; the same command with graphs=auto goes on eagerly") from error


def _open(run: Run, data: dict[str, Any], inputs: dict[str, Any]) -> None:
    try:
        run.open()
    except BlockingIOError as error:
        raise TakenError(str(error)) from error
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    before = read_summary(run.directory).get("data_identity")
    if run.resumes and isinstance(before, dict):
        try:
            check_same(before, data)
        except ValueError as error:
            raise config.user_error("data", error) from error
    run.write_inputs(inputs)


def _guarded(trackers: dict[str, Tracker], cfg: DictConfig, named: dict[str, str]) -> list[Guard]:
    """The configured trackers; the data must be known by now, since settings refer to them."""
    about: dict[str, Any] = {
        "experiment": f"{named['data']}-{named['model']}",
        "name": f"{named['method']}/seed={cfg.seed}",
        "warn": _show_warning,
    }
    return [Guard(key, tracker, config=config.to_tell(cfg), **about) for key, tracker in trackers.items()]
