"""`lets-eval`: the model of a run measured on any part of its data, on other data, and on spoiled test images.

run directories -> `trained.load` -> what is asked for, a set of examples each -> what is missing of the record.
"""

import argparse
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lets_runner import arguments, build, cli
from lets_runner.arguments import Parser
from lets_runner.config import UserError, user_error
from lets_runner.data import Data, ImageData
from lets_runner.data.corruptions import SEVERITIES, Corruption, names, read_corrupted
from lets_runner.data.identity import fingerprint_of
from lets_runner.evaluate.record import Record
from lets_runner.measures import ECE, NLL, Brier
from lets_runner.messages import one_line
from lets_runner.restore import find_runs, fingerprint
from lets_runner.scoring import Scoring
from lets_runner.tasks import Classification, Task
from lets_runner.trained import CHECKPOINTS, Trained, load

OVERRIDE = re.compile(r"data(\.\w+)*=")  # what tells one from a path, which may well have seed=0 in it
SETTING = re.compile(r"[+~\w.]+=")  # what looks like one of something else


@dataclass(frozen=True)
class Measured:
    """One row to be: what it is called, what it is made of, and how its examples are made."""

    data: str
    corruption: str
    severity: int | str
    identity: str
    examples: Callable[[], Any]


def main() -> None:
    """The console script. A run that cannot be measured is one line on standard error, and the others go on."""
    parser = _parser()
    asked = parser.parse_intermixed_args()  # settings of the data may come last
    parser.warn_in_lines()
    overrides = [word for word in asked.runs if OVERRIDE.match(word)]
    failures = 0
    try:
        device = build.pick_device(asked.device)
        corruptions = names(asked.corruptions) if asked.corruptions else []
        paths = [_path(word, parser) for word in asked.runs if not OVERRIDE.match(word)]
        if not paths:
            parser.error("the following arguments are required: RUN")
        runs = list(dict.fromkeys(run for path in paths for run in find_runs(path)))
    except (UserError, ValueError) as error:
        sys.exit(parser.complain(str(error)))
    for run in runs:
        try:
            evaluate(run, overrides, asked, corruptions, device, say=parser.say)
        except (UserError, ValueError, OSError) as error:
            failures = parser.complain(f"{run}: {str(error).removeprefix(f'{run}: ')}")
    sys.exit(failures)


def _parser() -> Parser:
    parser = Parser(
        "lets-eval",
        usage="lets-eval RUN... [data.KEY=VALUE ...] [options]",
        description="Measure the models of runs on parts of their data, on other data, and on spoiled images. Adds to "
        "RUN/evaluation.csv, which lets-report shows.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    runs = "a run directory, or one that holds some; data.KEY=VALUE or data=NAME changes the data set of all of them"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=runs)
    parser.add_argument("--split", choices=("train", "val", "test"), default="test", help="which examples")
    parser.add_argument("--checkpoint", choices=CHECKPOINTS, default="last", help="which weights")
    parser.add_argument(
        "--corruptions", nargs="+", metavar="NAME", help="spoil them as well: all, or by name (extra corruptions)"
    )
    parser.add_argument("--corrupted", type=Path, metavar="FOLDER", help="test images as CIFAR-10-C is published")
    parser.add_argument(
        "--severities", type=_severity, nargs="+", default=list(range(1, SEVERITIES + 1)), help="of corruptions, 1 to 5"
    )
    parser.add_argument("--seed", type=arguments.seed, default=0, help="of corruptions made here")
    parser.add_argument("--device", type=arguments.device, default="auto", help="auto, cpu, cuda or cuda:N")
    return parser


def _severity(text: str) -> int:
    return arguments.number(text, int, lambda value: 1 <= value <= SEVERITIES, "a whole number from 1 to 5")


def _path(word: str, parser: Parser) -> Path:
    if SETTING.match(word) and not Path(word).exists():
        parser.error(f"{word}: of a run that is done, only its data can be changed: data.KEY=VALUE, or data=NAME")
    return Path(word)


def evaluate(
    run: Path, overrides: list[str], asked: Namespace, corruptions: list[str], device: Any, *, say: Callable
) -> None:
    """Measure one run on all that is asked for, and say so row by row; what its record has already is left alone.

    Raises:
        UserError, ValueError, OSError: it cannot be; what was measured until then is written down.
    """
    trained = load(run, asked.checkpoint, device)
    cfg = _config(trained, overrides)
    task = calibrated(trained.task)
    form, channels_last = build.measuring(cfg, device)
    if channels_last:
        trained.model.to(memory_format=torch.channels_last)
    scoring = Scoring(task, autocast=form, device=device)
    part = asked.split if asked.split != "train" else "val"  # whose columns
    weights = fingerprint(trained.model.state_dict())
    columns = [column.name for column in task.columns.all]
    record = Record(run, checkpoint=asked.checkpoint, weights=weights, columns=columns)
    data: Data = build.make(cfg, "data")
    say(f"{run}: {asked.checkpoint}.pt, step {trained.step}")
    with closing(data):
        for one in _asked(data, trained, overrides, asked, corruptions):
            name = " ".join(word for word in (one.data, one.corruption, str(one.severity)) if word)
            if record.has(one.data, one.corruption, one.severity, identity=one.identity):
                say(f"  {name}: measured before")
                continue
            examples = one.examples()
            if not len(examples):
                raise UserError(f"--split {asked.split}: this run has none (data.val_fraction=0)")
            how: Any = {"batch_size": 1, "seed": (0,), "augmented": False, "channels_last": channels_last}
            loader = data.loader(examples, device=device, **how)
            scores = scoring.measure(trained.model, loader.in_order(), part).values
            facts = {"step": trained.step, "examples": len(examples), "identity": one.identity}
            record.add(one.data, one.corruption, one.severity, facts, scores)
            shown = [column for column in task.columns.all if column.name in scores]
            say(f"  {name}: " + ", ".join(f"{column.words} {column.show(scores[column.name])}" for column in shown))


def calibrated(task: Task) -> Task:
    """The task, measured for calibration too where its outputs are scores of classes."""
    return task.measuring([NLL(), Brier(), ECE()]) if isinstance(task, Classification) else task


def _asked(
    data: Data, trained: Trained, overrides: list[str], asked: Namespace, corruptions: list[str]
) -> Iterator[Measured]:
    """The rows to be: of the part itself, of its corruptions made here, and of the folder."""
    splits = build.read_splits(data)
    if _adopts(data, trained):
        splits = build.read_splits(data)  # where tables are scaled, and texts cut into tokens
    examples = getattr(splits, asked.split)
    drawn = [f"--seed {asked.seed}"] if corruptions and asked.seed else []
    where = " ".join([asked.split, *overrides, *drawn])
    base = fingerprint_of(examples)
    yield Measured(where, "", "", base, lambda: examples)
    for name in corruptions:
        for severity in asked.severities:
            corruption = Corruption(name, severity, asked.seed)
            yield Measured(where, name, severity, base, partial(data.spoiled, examples, corruption))
    if asked.corrupted is not None:
        if not isinstance(data, ImageData):
            raise UserError(f"--corrupted: is for images that live on the device, not for {type(data).__name__}")
        folder = asked.corrupted.resolve()
        for name, severity, spoiled in read_corrupted(folder, classes=data.outputs, shape=data.shape):
            if severity in asked.severities:
                yield Measured(folder.name, name, severity, fingerprint_of(spoiled), partial(_itself, spoiled))


def _itself(examples: Any) -> Any:
    return examples


def _adopts(data: Data, trained: Trained) -> bool:
    """Whether examples, of a data set that has been read, had to be made in another way for this model."""
    if trained.transform is None or data.transform in (None, trained.transform):
        return False
    names, known = data.transform.class_names, trained.class_names
    if names is not None and known is not None and names != known:
        raise UserError(f"data: its classes are {_few(names)}, and the model knows {_few(known)}")
    try:
        data.adopt(trained.transform)
    except ValueError as error:
        raise user_error("data", error) from error
    return True


def _few(names: tuple[str, ...], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _config(trained: Trained, overrides: list[str]) -> DictConfig:
    """The run's configuration with the data that are asked for."""
    cfg = OmegaConf.create(trained.config)
    try:
        if any(word.startswith("data=") for word in overrides):
            cfg.data = OmegaConf.to_container(cli.compose(*overrides)[0].data, resolve=True)
        else:
            OmegaConf.set_struct(cfg, True)
            cfg.merge_with_dotlist(overrides)
    except (OmegaConfBaseException, HydraException, ValueError) as error:
        raise UserError(one_line(error, overrides)) from error
    OmegaConf.set_struct(cfg, False)
    return cfg


if __name__ == "__main__":
    main()
