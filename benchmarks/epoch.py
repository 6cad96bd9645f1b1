"""What the runner adds to training: `python -m benchmarks.epoch --help`.

The runner's epoch, with its batches drawn and rows, metrics and a checkpoint written, against a bare loop that makes
the same passes over the same tensors: LETS's three a step and the measurement of the validation set, with nothing else
done. They take turns, epoch by epoch, and each of the runner's is held against the mean of the bare ones before and
after it, so that a machine that changes its speed meanwhile does not decide. What a run does once, before its first
epoch and after its last, is given beside it.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.step import machine
from lets_runner import build, cli, config
from lets_runner.columns import Columns
from lets_runner.data import CIFAR10
from lets_runner.run.directory import Run
from lets_runner.run.supervise import supervise


def main() -> None:
    """Print a line with the ratio of the two."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--images", type=int, default=1000, help="for training, a tenth of them for validation")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--alone", metavar="METHOD", help="time the runner with this method and no bare loop beside it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), arguments.images)
        run, seconds = train(Path(folder), arguments)
    if arguments.alone:
        device = build.pick_device(arguments.device)
        print(f"{arguments.model}, {arguments.precision}, {machine(device)}, torch {torch.__version__}")
        low, middle, high = quantiles(run.runner[2:], n=4)  # graphs are captured in the first epochs
        print(f"{arguments.alone}: runner's epoch {middle:.2f} s (quartiles {low:.2f} and {high:.2f})")
        return
    ratios = [epoch / mean(run.bare[n : n + 2]) for n, epoch in enumerate(run.runner[1:])]
    low, middle, high = quantiles(ratios, n=4)
    runner, bare = median(run.runner[1:]), median(run.bare)
    once = seconds - sum(run.bare) - sum(run.runner[1:]) - runner
    device = build.pick_device(arguments.device)
    print(f"{arguments.model}, {arguments.precision}, {machine(device)}, torch {torch.__version__}")
    print(
        f"runner's epoch {runner:.2f} s, bare loop {bare:.2f} s: {middle:.3f} "
        f"(quartiles {low:.3f} and {high:.3f} of {len(ratios)}); once a run {once:.2f} s"
    )


def write_images(root: Path, count: int) -> None:
    """Random images in CIFAR-10's binary layout."""
    rng = np.random.default_rng(0)
    folder = root / CIFAR10.folder
    folder.mkdir()
    for name in (*CIFAR10.train_files, *CIFAR10.test_files):
        labels = np.arange(count // 5, dtype=np.uint8)[:, None] % 10
        pixels = rng.integers(0, 256, (count // 5, 3072), dtype=np.uint8)
        (folder / name).write_bytes(np.concatenate([labels, pixels], 1).tobytes())


def train(root: Path, arguments: argparse.Namespace) -> tuple["TimedRun", float]:
    """A run whose epochs take turns with the bare loop, and all its seconds."""
    overrides = [
        "data=cifar10",
        f"data.root={root}",
        f"model={arguments.model}",
        f"precision={arguments.precision}",
        f"batch_size={arguments.batch_size}",
        f"device={arguments.device}",
        f"output={root / 'runs'}",
        f"epochs={arguments.epochs}",
        *([f"method={arguments.alone}"] if arguments.alone else []),
    ]
    cfg, named = cli.compose(*overrides)
    device = build.pick_device(cfg.device)
    bare = None if arguments.alone else Bare(build.build(cfg, device).trainer, device)
    if bare is not None:
        bare.seconds()  # the first one warms up
    parts = build.build(cfg, device)
    test: Any = OneImage(device)
    started = time.perf_counter()
    with TimedRun(config.run_directory(cfg, named), config.to_yaml(cfg), bare, parts.trainer.task.columns) as run:
        run.open()
        supervise(run, parts.trainer, test, {}, progress=False)
    return run, time.perf_counter() - started


class TimedRun(Run):
    """Times its epochs, each to the moment when its checkpoint is on the disk, and lets the bare loop have its turn."""

    def __init__(self, directory: Path, config: str, bare: "Bare | None", columns: Columns):
        super().__init__(directory, config, columns=columns)
        self.runner: list[float] = []
        self.bare: list[float] = []
        self._loop, self._since = bare, time.perf_counter()

    def save(self, *arguments: Any, **settings: Any) -> None:
        super().save(*arguments, **settings)
        self.runner.append(time.perf_counter() - self._since)
        if self._loop is not None:
            self.bare.append(self._loop.seconds())
        self._since = time.perf_counter()


class OneImage:
    """A test set that costs nothing."""

    def __init__(self, device: torch.device):
        self.device = device

    def in_order(self) -> Any:
        return [(torch.zeros(1, 3, 32, 32, device=self.device), torch.zeros(1, dtype=torch.int64, device=self.device))]


class Bare:
    """The same passes without any of the rest; batches are drawn beforehand."""

    def __init__(self, trainer: Any, device: torch.device):
        self.trainer, self.device = trainer, device
        steps = range(len(trainer.train))
        self.batches = [(trainer.train.batch(n), trainer.val.batch(n)) for n in steps]
        self.measured = list(trainer.val.in_order())

    def seconds(self) -> float:
        """Of one epoch."""
        model, base = self.trainer.model, self.trainer.optimizer.base
        _synchronize(self.device)
        started = time.perf_counter()
        model.train()
        for train, val in self.batches:
            self._backward(train)
            self._backward(train)
            base.step()
            self._backward(val)
        model.eval()
        with torch.no_grad(), self.trainer.autocast():
            for images, _ in self.measured:
                model(images)
        _synchronize(self.device)
        return time.perf_counter() - started

    def _backward(self, batch: Any) -> None:
        self.trainer.optimizer.base.zero_grad()
        with self.trainer.autocast():
            scores = self.trainer.model(batch[0])
        cross_entropy(scores.float(), batch[1]).backward()


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
