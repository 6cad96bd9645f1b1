"""Small data sets that are made here in the layout of real ones, for `scripts/reproduce --scale smoke`."""

from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from lets_runner.data import CIFAR10, CIFAR100

HALF = "data.val_fraction=0.5"
NOUNS = {"hund": "dog", "katze": "cat", "vogel": "bird", "fisch": "fish"}
VERBS = {"sieht": "sees", "sucht": "seeks", "mag": "likes"}


def make(data: str, root: Path) -> list[str]:
    """Write the files of a data set, by its name in conf/data; returns the overrides that go with them."""
    makers = {"glue": make_texts, "iwslt14": make_pairs, "imagenet": make_folders}
    return makers[data](root) if data in makers else make_images(data, root)


def make_folders(root: Path) -> list[str]:
    """Few random images, a tint a class, a folder a class."""
    rng = np.random.default_rng(0)
    for part, label, number in product(("train", "val"), range(4), range(16)):
        path = root / part / f"n{label:02}" / f"{number}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 100, (72, 80, 3)) + 40 * label * (np.arange(3) == label % 3)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return ["data.classes=4", "data.size=64", "data.workers=0", HALF]


def make_images(data: str, root: Path) -> list[str]:
    """Few random images, a tint a class, in CIFAR's layout."""
    rng = np.random.default_rng(0)
    source = {"cifar10": CIFAR10, "cifar100": CIFAR100}[data]
    folder = root / source.folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*source.train_files, *source.test_files):
        fine = np.arange(40 if data == "cifar10" else 200)[:, None] % source.classes
        labels = [fine] if data == "cifar10" else [fine // 5, fine]
        pixels = rng.integers(0, 128, (len(fine), 3072)) + fine * 127 // source.classes
        (folder / name).write_bytes(np.concatenate([*labels, pixels], 1).astype(np.uint8).tobytes())
    return [HALF]


def make_texts(root: Path) -> list[str]:
    """Few short sentences, of which the second class says so, in the layout of three of GLUE's tasks."""
    rng = np.random.default_rng(0)
    words = ["a", "film", "of", "many", "ideas", "and", "little", "time"]
    headers = {
        "CoLA": None,
        "MRPC": ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
        "STS-B": [*map(str, range(7)), "sentence1", "sentence2", "score"],
    }
    for (folder, header), (part, count) in product(headers.items(), (("train", 80), ("dev", 20))):
        lines = [header] if header else []
        for number in range(count):
            label = number % 2
            first, second = (" ".join([*rng.choice(words, 4 + rng.integers(4)), *["so"] * label]) for _ in range(2))
            row = {"CoLA": ["", str(label), "", first], "MRPC": [str(label), "", "", first, second]}
            lines.append(row.get(folder, [*[""] * 7, first, second, f"{5 * label}.000"]))
        path = root / folder / f"{part}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    return ["data.task=cola,mrpc,stsb", "data.vocabulary_size=300", "data.max_length=24", HALF]


def make_pairs(root: Path, *, pieces: int = 0) -> list[str]:
    """Short sentences and their translations, word for word; with as many `pieces` in a vocabulary file, if any."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    for part, count in {"train": 80, "valid": 20, "test": 20}.items():
        thing, verb, other = (rng.choice(list(words), count) for words in (NOUNS, VERBS, NOUNS))
        lines = {
            "de": [f"der {a} den {b} {v} ." for a, v, b in zip(thing, verb, other, strict=True)],
            "en": [f"the {NOUNS[a]} {VERBS[v]} the {NOUNS[b]} ." for a, v, b in zip(thing, verb, other, strict=True)],
        }
        for language, sentences in lines.items():
            text = "".join(f"{sentence}\n" for sentence in sentences)
            (root / f"{part}.{language}").write_text(text, encoding="utf-8")
    if pieces:
        (root / "vocab").write_text("".join(f"w{number} 1\n" for number in range(pieces)), encoding="utf-8")
    return ["data.merges=60", "data.max_tokens=200", "task.beam=2", "schedule.warmup=4"]
