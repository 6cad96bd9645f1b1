"""What an experiment comes to, for `scripts/reproduce --dry-run`: counts gradient evaluations, and times some."""

import contextlib
import io
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import made_up
import torch
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from lets_runner import build, cli, config
from lets_runner.config import UserError
from lets_runner.data import CIFAR10, CIFAR100, GLUE, Data, ImageNet, ParallelText, Splits
from lets_runner.data.text.loader import PairBatch
from lets_runner.run.files import read_summary
from lets_runner.tokens import SPECIAL

PUBLISHED: dict[type, int] = {CIFAR10: 50_000, CIFAR100: 50_000, ImageNet: 1_281_167}  # training images
TEXTS = {  # of GLUE's training sets
    **{"cola": 8_551, "sst2": 67_349, "mrpc": 3_668, "stsb": 5_749, "rte": 2_490, "wnli": 635},
    **{"qnli": 104_743, "qqp": 363_849, "mnli": 392_702},
}
METHOD = ("experiment=", "method=", "sam=", "sam.", "radius=", "radius.")  # words that cost may depend on
CPU_PIXELS = 2**21  # of a batch that is timed on a CPU; all of ImageNet's would take minutes, and 20 GB
CPU_TOKENS = 2**9  # likewise
SIDES = ("source", "target")
PAIRS = 160_239  # of IWSLT'14's training set as fairseq's prepare-iwslt14.sh leaves it
# Of these pairs as 10,000 merges cut them, measured on 14,946 of them: in a batch of 4,096 tokens, and places of each.
PAIRS_A_BATCH, PAIR_TOKENS = 157.3, 26
STAND_IN = ["data=digits", "model=mlp", "epochs=1", "batch_size=64", "grad_clip=null", "progress=false", "device=cpu"]


class StandIn(Data):
    """In place of a data set that need not be here: like it in all but its examples."""

    def __init__(self, data: Data, train: int, val: int):
        self.shape, self.classes, self.val_fraction = data.shape, data.outputs, data.val_fraction
        self.target_kind, self.varying = data.target_kind, data.varying
        self.train, self.val = train, val

    def splits(self) -> Splits:
        return Splits(range(self.train), range(self.val), range(1))

    def loader(self, examples: Any, *, batch_size: int, **_: Any) -> range:
        return range(len(examples) // batch_size)


def estimate(jobs: list[list[str]]) -> str:
    """How many gradient evaluations, and about how long on this machine, one run after the other."""
    evaluations, seconds = 0.0, 0.0
    speeds: dict[tuple[str, ...], tuple[int, float, str]] = {}
    costs: dict[tuple[str, ...], float] = {}
    for job in jobs:
        network = tuple(
            word for word in job if word.split("=")[0] not in ("method", "seed", "sam.rho", "data.label_noise")
        )
        if network not in speeds:
            speeds[network] = steps_and_seconds(list(network))
        method = tuple(word for word in job if word.startswith(METHOD) and not word.startswith("sam.rho="))
        if method not in costs:
            costs[method] = evaluations_a_step(method)
        steps, each, _ = speeds[network]
        evaluations += steps * costs[method]
        seconds += steps * costs[method] * each
    notes = "".join(dict.fromkeys(note for _, _, note in speeds.values()))
    return f", {evaluations:,.0f} gradient evaluations, about {length(seconds)} of this machine{notes}"


def length(seconds: float) -> str:
    """In one digit: from one estimate to the next the others would differ."""
    number, unit = (seconds / 3600, "hour") if seconds >= 3600 else (max(1.0, seconds / 60), "minute")
    number = round(number, -math.floor(math.log10(number)))
    return f"{number:,.0f} {unit}{'s' if number > 1 else ''}"


def steps_and_seconds(words: list[str]) -> tuple[int, float, str]:
    """The steps of a run, the seconds that a gradient evaluation takes, and what had to be assumed."""
    cfg, _ = cli.compose(*words)
    with tempfile.TemporaryDirectory() as folder:
        assumed = sentences(cfg, Path(folder)) if cfg.data._target_.endswith(f".{ParallelText.__name__}") else ""
        config.check(cfg)
        device = build.pick_device(cfg.device)
        data, missing = stand_in(cfg, assumed)
        trainer = build.build(cfg, device, stand_in=data).trainer
    batch, share = made_batch(cfg, data, device)
    times: list[float] = []  # the first one warms up, and others may wait for whatever else the machine does
    while len(times) < 2 or (len(times) < 6 and sum(times) < 10):
        started = time.perf_counter()
        with trainer.autocast():
            loss = trainer.task.loss(trainer.model, batch).loss
        loss.backward()
        loss.item()  # waits for the device
        times.append(time.perf_counter() - started)
    return trainer.total_steps, min(times) / share, missing


def made_batch(cfg: DictConfig, data: StandIn, device: torch.device) -> tuple[Any, float]:
    """Examples that mean nothing, texts as long as they may be, and what share of a batch they are."""
    little = device.type == "cpu"
    if data.target_kind == "sentences":
        tokens = min(cfg.data.max_tokens, CPU_TOKENS) if little else cfg.data.max_tokens
        rows = torch.randint(len(SPECIAL), data.outputs, (max(1, tokens // PAIR_TOKENS), PAIR_TOKENS), device=device)
        facts: dict[str, Any] = {"numbers": (), "references": (), "text": str}
        batch: Any = PairBatch(rows, rows, (PAIR_TOKENS,) * len(rows), float(rows.numel()), **facts)
        return batch, rows.numel() / cfg.data.max_tokens
    size, shape = cfg.batch_size, data.shape
    if isinstance(shape, tuple):
        size = min(size, max(1, CPU_PIXELS // math.prod(shape))) if little else size
        inputs: Any = torch.randn(size, *shape, device=device)
    else:
        size = min(size, max(1, CPU_TOKENS // shape.length)) if little else size
        ids = torch.randint(shape.vocabulary, (size, shape.length), device=device)
        inputs = {
            "input_ids": ids,
            "attention_mask": ids.new_ones(ids.shape),
            "token_type_ids": ids.new_zeros(ids.shape),
        }
    numbers = torch.randn(size, data.outputs, device=device)
    return (inputs, numbers if data.target_kind == "numbers" else numbers.argmax(1)), size / cfg.batch_size


def published(data: Data) -> tuple[int, str] | None:
    """How many training examples a data set is published to have, and of what."""
    if isinstance(data, GLUE):
        return TEXTS[data.task], "texts"
    return (PUBLISHED[type(data)], "images") if type(data) in PUBLISHED else None


def sentences(cfg: DictConfig, folder: Path) -> str:
    """Where a translation's files are not here, others of as many pieces in their place; returns what is assumed."""
    if all((Path(cfg.data.root).expanduser() / f"{cfg.data.train}.{cfg.data[side]}").exists() for side in SIDES):
        return ""
    made_up.make_pairs(folder, pieces=cfg.data.merges)
    cfg.data.root, cfg.data.source, cfg.data.target = str(folder), "de", "en"
    cfg.data.train, cfg.data.valid, cfg.data.test = "train", "valid", "test"
    return f" (the data set is not here: its published {PAIRS:,} training pairs are assumed)"


def stand_in(cfg: DictConfig, assumed: str) -> tuple[StandIn, str]:
    """In place of the data set, of the size that it has or, if it is not here, is published to have; which is said."""
    if "download" in cfg.data:
        cfg.data.download = False  # to say what it comes to is no reason to fetch it
    data = build.make(cfg, "data")
    if isinstance(data, ParallelText):
        batches = round(PAIRS / PAIRS_A_BATCH * 4096 / cfg.data.max_tokens) if assumed else len(batches_of(cfg, data))
        return StandIn(data, batches * cfg.batch_size, cfg.batch_size), assumed
    try:
        splits = build.read_splits(data)
    except UserError as error:
        if (known := published(data)) is None or not isinstance(error.__cause__, FileNotFoundError):
            raise
        size, what = known
        val = round(data.val_fraction * size)
        note = f" (the data set is not here: its published {size:,} training {what} are assumed)"
        return StandIn(data, size - val, val), note
    return StandIn(data, len(splits.train), len(splits.val)), ""


def batches_of(cfg: DictConfig, data: ParallelText) -> Any:
    """The batches of a pass over the pairs."""
    form: Any = {"seed": (0,), "device": torch.device("cpu"), "augmented": True}
    return data.loader(data.splits().train, batch_size=cfg.batch_size, **form)


def evaluations_a_step(method: tuple[str, ...]) -> float:
    """Counted on digits: it does not depend on data and network, nor on ρ."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        asked, named = cli.compose(*method)
        cfg, _ = cli.compose(quoted("output", folder), *STAND_IN)
        cfg.sam, cfg.radius = asked.sam, asked.radius
        directory = config.run_directory(cfg, named)
        cli.train(cfg, directory, named)
        summary = read_summary(directory)
    return summary["gradient_evaluations"] / summary["step"]


def quoted(key: str, path: Path | str) -> str:
    """An override in quotes: in the grammar of Hydra `=`, `,` or `(` of a path would mean something."""
    return f"{key}={QuotedString(str(path), Quote.single).with_quotes()}"
