"""Try out on a GPU what only a GPU runs: `scripts/gpu_check`, some seven minutes, no network.

A line for every check: whether it passed, its figure, its seconds. A check that fails stops no other; the last lines
say what fell short. Data are made on the spot.
"""

import argparse
import csv
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.graphed import UNLEARNED, ShortError, same_as_eager, variants
from lets_runner.build import device_name, pick_device
from lets_runner.config import UserError
from lets_runner.data import CIFAR10

ROOT = Path(__file__).resolve().parents[1]
CUBLAS = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # without it its results may vary
LIMIT = 470.0  # seconds for all checks; one that would begin later is left out, and named
IMAGES = 1000  # for training, in CIFAR-10's layout
EARLY = ("schedule.warmup_steps=5", "optimizer.layer_decay=0.9", "early_stopping.patience=5", "model.freeze=[conv1]")
LEARNED = 0.3  # test accuracy on ten classes that are easily told apart
# What a step and an epoch should cost on an H100 at batch size 128 and 512.
MULTIPLES = {128: {"SAM": 2.1, "LETS": 3.3, "LETS, every=10": 2.2}, 512: {"SAM": 2.03, "LETS": 3.1}}
SGD_MS = 3.1
EPOCH_SECONDS = {"erm": 1.4, "sam": 2.5, "lets_sam": 4.0}


@dataclass(frozen=True)
class Check:
    """`run` returns a figure to show, or raises."""

    name: str
    run: Callable[[], str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="checks whose names contain one of these")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds after which no check begins")
    arguments = parser.parse_args()
    try:
        device = pick_device(arguments.device)
    except UserError as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{device_name(device)}, torch {torch.__version__}, Python {sys.version.split()[0]}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), IMAGES)
        os.environ.update(CUBLAS)
        checks = list(all_checks(Path(folder), device))
        if arguments.only:
            checks = [check for check in checks if any(word in check.name for word in arguments.only)]
        short = take(checks, limit=arguments.limit)
    print(f"{len(checks) - len(short)} passed, {len(short)} failed")
    for line in short:
        print(f"fell short: {line}")
    sys.exit(1 if short else 0)


def take(checks: list[Check], *, limit: float = LIMIT) -> list[str]:
    """Take every check, whatever the others come to; returns what fell short."""
    began, short = time.perf_counter(), []
    for check in checks:
        started = time.perf_counter()
        if started - began > limit:
            word, figure = "LEFT", f"not begun: {limit:.0f} s were over"
        else:
            try:
                word, figure = "ok", check.run()
            except Exception as error:  # a check may fail in any way
                word, figure = "FAIL", " ".join(f"{error or type(error).__name__}".split())[-400:]
        print(f"{word:4s} {check.name:40s} {time.perf_counter() - started:6.1f} s  {figure}", flush=True)
        if word != "ok":
            short.append(f"{check.name}: {figure}")
    return short


def all_checks(folder: Path, device: torch.device) -> Iterator[Check]:
    """The most telling ones first."""
    name = str(device)
    cifar = ["data=cifar10", f"data.root={folder}", "data.crop=0", "data.cutout=0", "epochs=6", "batch_size=50"]
    yield Check("run: digits, as it comes", partial(trained, folder, name, [], at_least=0.9, graphs=True))
    for word in ("precision=bf16", "precision=fp16", "graphs=false", "channels_last=true precision=bf16"):
        settings = [*cifar, "model=resnet18", *word.split()]
        yield Check(f"run: resnet18 {word}", partial(trained, folder, name, settings, at_least=LEARNED))
    compiled = [*cifar, "model=convnet", "compile=true", "precision=bf16"]
    yield Check("run: convnet compile=true", partial(trained, folder, name, compiled, at_least=LEARNED))
    recipe = ["data.mixup=0.2", "data.cutmix=1.0", "data.policy=trivialaugment", "ema.decay=0.9", *EARLY]
    settings = [*cifar, "model=resnet18", *recipe]
    yield Check("run: resnet18 mixed, averaged, warmed up", partial(trained, folder, name, settings, at_least=LEARNED))
    yield Check("a model measured again and exported", partial(taken, folder, name, [*cifar, "model=resnet18"]))
    for sam in variants():
        for radius in ("fixed",) if sam in UNLEARNED else ("fixed", "lets"):
            yield Check(f"graphed = eager: {sam}, {radius}", partial(same_as_eager, sam, radius, device))
    yield Check("killed and started again, bit for bit", partial(resumed, folder, name, [*cifar, "model=resnet18"]))
    for strategy in ("ddp", "fsdp"):
        yield Check(f"torchrun, one process, {strategy}", partial(launched, folder, name, strategy))
    yield Check("tests marked gpu", gpu_tests)
    for size in MULTIPLES:
        yield Check(f"steps as graphs, batches of {size}", partial(step_times, size))
    yield Check("steps, eager", partial(eager_times, 128))
    for method, seconds in EPOCH_SECONDS.items():
        yield Check(f"epoch of 45,000 images, {method}", partial(epoch_times, method, seconds))


def write_images(root: Path, count: int) -> None:
    """Images in CIFAR-10's binary layout, each class of a brightness of its own."""
    rng = np.random.default_rng(0)
    folder = root / CIFAR10.folder
    folder.mkdir(exist_ok=True)
    for name in (*CIFAR10.train_files, *CIFAR10.test_files):
        labels = np.arange(count // 5, dtype=np.uint8)[:, None] % 10
        pixels = (rng.integers(0, 60, (count // 5, 3072)) + 19 * labels).astype(np.uint8)
        (folder / name).write_bytes(np.concatenate([labels, pixels], 1).tobytes())


# Runs.


def command(folder: Path, device: str, overrides: list[str], program: list[str] | None = None) -> list[str]:
    start = program or [sys.executable, "-m", "lets_runner"]
    return [*start, f"device={device}", "progress=false", f"output={folder / 'runs'}", *overrides]


def called(words: list[str]) -> str:
    """What a program prints; an error with the end of it if it fails."""
    environment = {**os.environ, **CUBLAS, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240
    )
    if done.returncode:
        raise ShortError(f"exit {done.returncode}: {done.stdout[-400:]}")
    return done.stdout


def trained(folder: Path, device: str, overrides: list[str], *, at_least: float, graphs: bool = False) -> str:
    """A run ends, and has learned."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        called(command(Path(place), device, overrides))
        [summary] = [json.loads(path.read_text()) for path in Path(place).rglob("summary.json")]
    because = summary["eager_because"]
    figure = f"test accuracy {summary['test_accuracy']:.3f}, {because or 'graphs'}, {summary['seconds']:.1f} s"
    if summary["test_accuracy"] < at_least or (graphs and because):
        raise ShortError(figure)
    return figure


def taken(folder: Path, device: str, overrides: list[str]) -> str:
    """What lets-eval measures of a run is what the run has measured, and a file of it predicts the same."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        called(command(Path(place), device, overrides))
        [directory] = [path.parent for path in Path(place).rglob("summary.json")]
        measure, write = ([sys.executable, "-m", f"lets_runner.{name}.command"] for name in ("evaluate", "export"))
        called([*measure, str(directory), "--device", device])
        with (directory / "evaluation.csv").open(newline="") as file:
            [row] = csv.DictReader(file)
        own = json.loads((directory / "summary.json").read_text())["test_accuracy"]
        said = called([*write, str(directory)]).strip().rsplit("; ")[-1]
    figure = f"test accuracy {own:.4f} in the run and {float(row['accuracy']):.4f} again; file: {said}"
    if abs(own - float(row["accuracy"])) > 1.5 / float(row["examples"]):  # other algorithms round otherwise
        raise ShortError(figure)
    return figure


def resumed(folder: Path, device: str, overrides: list[str]) -> str:
    """A run that is killed twice ends as one that is not, to the bit."""
    settings = [*overrides, "deterministic=true", "checkpoint.every_steps=5"]
    ends = []
    for kills in (0, 2):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            for _ in range(kills):
                kill_after(command(Path(place), device, settings), Path(place), checkpoints=2)
            called(command(Path(place), device, settings))
            [directory] = [path.parent for path in Path(place).rglob("summary.json")]
            rows = (directory / "steps.csv").read_text()
            state = torch.load(directory / "checkpoints" / "last.pt", map_location="cpu", weights_only=True)
            ends.append((rows, state["model"]))
    (rows, weights), (other_rows, others) = ends
    differ = sum(not torch.equal(value, others[name]) for name, value in weights.items())
    lines = sum(a != b for a, b in zip(rows.splitlines(), other_rows.splitlines(), strict=False))
    figure = f"{len(rows.splitlines()) - 1} steps, {lines} rows and {differ} of {len(weights)} tensors differ"
    if lines or differ or len(rows) != len(other_rows):
        raise ShortError(figure)
    return figure


def kill_after(words: list[str], place: Path, *, checkpoints: int) -> None:
    """Start a run and kill it once it has written so many checkpoints more."""
    environment = {**os.environ, **CUBLAS, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen: set[int] = set()
    while len(seen) <= checkpoints and process.poll() is None:
        seen |= {path.stat().st_mtime_ns for path in place.rglob("last.pt")}
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


def launched(folder: Path, device: str, strategy: str) -> str:
    """`torchrun` with one process, and with it the collectives of a GPU."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        words = ["model=mlp", "epochs=5", f"distributed.strategy={strategy}"]
        called(command(Path(place), device.split(":")[0], words, [*torchrun, "-m", "lets_runner"]))
        [summary] = [json.loads(path.read_text()) for path in Path(place).rglob("summary.json")]
    if summary["eager_because"] is None:
        raise ShortError("steps were graphs although several processes may share a batch")
    return f"test accuracy {summary['test_accuracy']:.3f}"


def gpu_tests() -> str:
    if importlib.util.find_spec("pytest") is None:
        raise ShortError("pytest is not installed: pip install -e '.[test]'")
    words = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "-W", "default", "tests/optim/test_gpu.py"]
    printed = called([sys.executable, "-m", "pytest", *words])
    return printed.strip().splitlines()[-1].strip("= ")


# Times.


def benchmark(*words: str) -> str:
    return called([sys.executable, "-m", *words])


def step_times(size: int) -> str:
    """Graphed steps as multiples of a graphed SGD."""
    names = ["SAM", "ASAM", "LETS", "LETS, every=10"]
    settings = ["--graphs", "--channels-last", "--precision", "bf16", "--batch-size", str(size), "--rounds", "50"]
    rows = table(benchmark("benchmarks.step", *settings, "--only", *names))
    wanted = MULTIPLES[size]
    late = [name for name, most in wanted.items() if rows[name][0] > most]
    if size == 128 and rows["SGD"][1] > SGD_MS:
        late.append("SGD")
    figure = ", ".join(f"{name} {multiple:.2f} x ({ms:.2f} ms)" for name, (multiple, ms) in rows.items())
    if late:
        raise ShortError(f"{figure}; wanted {wanted}, too slow: {', '.join(late)}")
    return figure


def eager_times(size: int) -> str:
    settings = ["--channels-last", "--precision", "bf16", "--batch-size", str(size), "--rounds", "20"]
    rows = table(benchmark("benchmarks.step", *settings, "--only", "SAM", "LETS"))
    return ", ".join(f"{name} {multiple:.2f} x ({ms:.2f} ms)" for name, (multiple, ms) in rows.items())


def table(printed: str) -> dict[str, tuple[float, float]]:
    """Multiple of SGD and milliseconds, by name."""
    lines = [line.strip("|").split("|") for line in printed.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line] for line in lines]
    return {row[0]: (float(row[1]), float(row[4])) for row in cells if re.fullmatch(r"[\d.]+", row[1])}


def epoch_times(method: str, most: float) -> str:
    """An epoch of the runner, with 45,000 images for training and 5,000 for validation."""
    settings = ["--images", "50000", "--batch-size", "128", "--precision", "bf16", "--epochs", "5", "--alone", method]
    printed = benchmark("benchmarks.epoch", *settings).strip().splitlines()[-1]
    match = re.search(r"epoch ([\d.]+) s", printed)
    if match is None or float(match[1]) > most:
        raise ShortError(f"{printed}; wanted {most} s")
    return printed


if __name__ == "__main__":
    main()
