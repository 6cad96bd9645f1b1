"""What the runner adds to training: `python -m benchmarks.epoch --help`.

The runner's epoch, with its batches drawn and rows, metrics and a checkpoint written, against a bare loop that makes
the same passes over the same tensors: LETS's three a step and the measurement of the validation set, with nothing else
done. What a run does once, before its first epoch and after its last, is told beside it.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.step import machine
from lets_runner import build, cli, config
from lets_runner.data import CIFAR10
from lets_runner.run import Run
from lets_runner.supervisor import supervise

EPOCHS = 3


def main() -> None:
    """Print a line with the ratio of the two."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--images", type=int, default=1000, help="for training, a tenth of them for validation")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), arguments.images)
        ratios = [compare(Path(folder) / f"{number}", arguments, folder) for number in range(arguments.rounds)]
    runner, once, bare = (statistics.median(column) for column in zip(*ratios, strict=True))
    ratio = statistics.median(epoch / bare for epoch, _, bare in ratios)
    each = ", ".join(f"{epoch / bare:.3f}" for epoch, _, bare in ratios)
    device = build.pick_device(arguments.device)
    print(f"{arguments.model}, {arguments.precision}, {machine(device)}, torch {torch.__version__}")
    print(f"runner's epoch {runner:.2f} s, bare loop {bare:.2f} s: {ratio:.3f} ({each}); once a run {once:.2f} s")


def write_images(root: Path, count: int) -> None:
    """Random images in CIFAR-10's binary layout."""
    rng = np.random.default_rng(0)
    folder = root / CIFAR10.folder
    folder.mkdir()
    for name in (*CIFAR10.train_files, *CIFAR10.test_files):
        labels = np.arange(count // 5, dtype=np.uint8)[:, None] % 10
        pixels = rng.integers(0, 256, (count // 5, 3072), dtype=np.uint8)
        (folder / name).write_bytes(np.concatenate([labels, pixels], 1).tobytes())


def compare(output: Path, arguments: argparse.Namespace, root: str) -> tuple[float, float, float]:
    """Seconds of the runner's epoch, of what it does once a run, and of the bare loop."""
    overrides = [
        "data=cifar10",
        f"data.root={root}",
        f"model={arguments.model}",
        f"precision={arguments.precision}",
        f"batch_size={arguments.batch_size}",
        f"device={arguments.device}",
        f"output={output}",
        f"epochs={EPOCHS}",
    ]
    cfg, named = cli.compose(*overrides)
    device = build.pick_device(cfg.device)
    bare = bare_seconds(build.build(cfg, device).trainer, device)
    parts = build.build(cfg, device)
    test: Any = OneImage(device)
    with TimedRun(config.run_directory(cfg, named), config.to_yaml(cfg)) as run:
        run.open()
        started = time.perf_counter()
        supervise(run, parts.trainer, test, {}, progress=False)
        seconds = time.perf_counter() - started
    epoch = (run.saved[-1] - run.saved[0]) / (EPOCHS - 1)
    return epoch, seconds - EPOCHS * epoch, bare


class TimedRun(Run):
    """Notes when a checkpoint is on the disk."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.saved: list[float] = []

    def save(self, *arguments: Any, **settings: Any) -> None:
        super().save(*arguments, **settings)
        self.saved.append(time.perf_counter())


class OneImage:
    """A test set that costs nothing."""

    def __init__(self, device: torch.device):
        self.device = device

    def in_order(self) -> Any:
        return [(torch.zeros(1, 3, 32, 32, device=self.device), torch.zeros(1, dtype=torch.int64, device=self.device))]


def bare_seconds(trainer: Any, device: torch.device) -> float:
    """The same passes without any of the rest; batches are drawn beforehand."""
    model, base = trainer.model, trainer.optimizer.base
    steps = range(len(trainer.train))
    train, val = [trainer.train.batch(n) for n in steps], [trainer.val.batch(n) for n in steps]
    measured = list(trainer.val.in_order())

    def backward(batch: Any) -> None:
        base.zero_grad()
        with trainer.autocast():
            scores = model(batch[0])
        cross_entropy(scores.float(), batch[1]).backward()

    _synchronize(device)
    started = time.perf_counter()
    model.train()
    for number in steps:
        backward(train[number])
        backward(train[number])
        base.step()
        backward(val[number])
    model.eval()
    with torch.no_grad(), trainer.autocast():
        for images, _ in measured:
            model(images)
    _synchronize(device)
    return time.perf_counter() - started


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
