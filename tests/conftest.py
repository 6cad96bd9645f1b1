"""What several tests need: the small network of `reference` in torch, and data sets small enough to make."""

import os
import signal
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch comes, and for every process that a test starts

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it would be ignored

SIZES = (5, 8, 3)  # inputs, hidden units, classes


class Problem:
    """A tanh network in float64 and batches of data, as torch and as NumPy."""

    def __init__(self, seed=0, batches=20, size=16):
        inputs, hidden, classes = SIZES
        generator = torch.Generator().manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, classes)).double()
        for parameter in self.model.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5
        self.x = torch.randn(batches, size, inputs, generator=generator, dtype=torch.float64)
        self.y = torch.randint(0, classes, (batches, size), generator=generator)

    @property
    def params(self):
        return list(self.model.parameters())

    def closure(self, number):
        return lambda: nn.functional.cross_entropy(self.model(self.x[number]), self.y[number])

    def numpy_params(self):
        return [p.detach().numpy().copy() for p in self.params]

    def numpy_batch(self, number):
        return self.x[number].numpy(), self.y[number].numpy()


@pytest.fixture
def problem():
    return Problem()


def grid(values, few):
    """`values` as parameters; those that are not among the `few` are for the full suite, which CI runs."""
    return [pytest.param(*_tuple(value), marks=[] if value in few else pytest.mark.full) for value in values]


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)


def write_cifar10(root, records=40, seed=0, size=None):
    """Files in CIFAR-10's binary layout, with `records` images in each."""
    rng = np.random.default_rng(seed)
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        labels = np.arange(records, dtype=np.uint8)[:, None] % 10
        pixels = rng.integers(0, 256, (records, 3072), dtype=np.uint8)
        (folder / name).write_bytes(np.concatenate([labels, pixels], 1).tobytes()[:size])
    return folder


def write_cifar100(root, records=200, seed=0):
    rng = np.random.default_rng(seed)
    folder = root / "cifar-100-binary"
    folder.mkdir(parents=True)
    for name in ("train.bin", "test.bin"):
        fine = np.arange(records, dtype=np.uint8)[:, None] % 100
        pixels = rng.integers(0, 256, (records, 3072), dtype=np.uint8)
        (folder / name).write_bytes(np.concatenate([fine // 5, fine, pixels], 1).tobytes())
    return folder


def write_imagenet(root, classes=3, train=8, val=4, seed=0):
    """Small JPEGs of odd sizes, a colour a class, in ImageNet's layout; returns the folder."""
    rng = np.random.default_rng(seed)
    for part, images in {"train": train, "val": val}.items():
        for label in range(classes):
            folder = root / part / f"n{label:02}"
            folder.mkdir(parents=True)
            for number in range(images):
                height, width = rng.integers(20, 60, 2)
                pixels = rng.integers(0, 128, (height, width, 3)) + 127 * (np.arange(3) == label % 3)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{part}_{number}.JPEG")
    return root


def write_csv(path, header, rows):
    path.write_text(f"{header}\n" + "".join(",".join(repr(float(cell)) for cell in row) + "\n" for row in rows))
    return path


# The columns of GLUE's files and the labels of its tasks, written down from the published ones.
GLUE_FILES = {
    "cola": ("CoLA", None, "source label mark sentence", "0 1"),
    "sst2": ("SST-2", "sentence label", "sentence label", "0 1"),
    "mrpc": ("MRPC", "Quality|#1 ID|#2 ID|#1 String|#2 String", "label id id first second", "0 1"),
    "stsb": (
        "STS-B",
        "index genre filename year old_index source1 source2 sentence1 sentence2 score",
        "id id id id id id id first second label",
        "0.000 2.500 5.000 1.333",
    ),
    "rte": ("RTE", "index sentence1 sentence2 label", "id first second label", "entailment not_entailment"),
    "wnli": ("WNLI", "index sentence1 sentence2 label", "id first second label", "0 1"),
    "qnli": ("QNLI", "index question sentence label", "id first second label", "entailment not_entailment"),
    "qqp": ("QQP", "id qid1 qid2 question1 question2 is_duplicate", "id id id first second label", "0 1"),
    "mnli": (
        "MNLI",
        "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
        "sentence1 sentence2 label1 gold_label",
        "id id id id id id id id first second id label",
        "neutral entailment contradiction",
    ),
}
WORDS = ["the", "cat", "sat", "on", "a", "mat", "while", "dogs", "ran", "far", "and", "birds", "sang", "in", "trees"]


def write_glue(root, task, train=40, dev=12, seed=0):
    """A task's files in GLUE's layout; of label i every sentence has i words "so". Returns the folder of the tasks."""
    rng = np.random.default_rng(seed)
    name, header, cells, labels = GLUE_FILES[task]
    labels, folder = labels.split(), root / name
    folder.mkdir(parents=True)
    devs = ("dev_matched", "dev_mismatched") if task == "mnli" else ("dev",)
    for file, count in {"train": train, **dict.fromkeys(devs, dev)}.items():
        lines = [] if header is None else [header.replace("|" if "|" in header else " ", "\t")]
        for number in range(count):
            place = number % len(labels)
            text = [" ".join([*rng.choice(WORDS, rng.integers(2, 9)), *["so"] * place]) for _ in range(2)]
            row = {"label": labels[place], "first": text[0], "second": text[1], "sentence": text[0], "id": str(number)}
            lines.append("\t".join(row.get(cell, "") for cell in cells.split()))
        (folder / f"{file}.tsv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return root


def train(output, *overrides):
    """Train on digits, short and quiet unless told otherwise; returns the run directory."""
    from lets_runner import cli, config

    cfg, named = cli.compose("epochs=2", "progress=false", f"output={output}", *overrides)
    directory = config.run_directory(cfg, named)
    cli.train(cfg, directory, named)
    return directory


def lets_train(monkeypatch, *arguments):
    """The console script in this process; returns its exit code."""
    from lets_runner import cli

    monkeypatch.setattr(sys, "argv", ["lets-train", *arguments])
    monkeypatch.setattr("warnings.showwarning", None)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code
    return 0
