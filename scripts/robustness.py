#!/usr/bin/env python
"""How robust and how well calibrated networks are that ERM, SAM, LETS and horizon LETS trained.

CIFAR-10 in small (`radius_problems`), clean and with 40 % wrong labels; the fifteen corruptions of CIFAR-10-C, made of
its test images, at five severities. Every step is a command that `docs/models.md` explains, and what is there already
is not done again:

    python scripts/robustness.py --data-root DATA         # trains, measures, and prints the table
    python scripts/robustness.py --print                  # prints it of what docs/robustness has
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from hydra.core.override_parser.types import Quote, QuotedString

HERE = Path(__file__).resolve().parent
KEPT = HERE.parent / "docs" / "robustness" / "robustness.csv"
PROBLEM = ("data=cifar10_small", "data.test_images=1000", "model=resnet8", "optimizer.lr=0.1")
METHODS = {
    "ERM": ("method=erm",),
    "SAM, ρ = 0.1": ("method=sam", "sam.rho=0.1"),  # the best of the grids of the study of radii
    "LETS from 0.05": ("method=lets_sam", "sam.rho=0.05"),
    "horizon LETS": ("method=horizon_sam",),
}
NOISES = ("0.0", "0.4")
KINDS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
ALL = tuple(name for kind in KINDS.values() for name in kind)
CORRUPTED = "CIFAR-10-C-small"  # the folder, and so what its rows are called


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="where CIFAR-10 is")
    parser.add_argument("--output", type=Path, default=Path("runs/robustness"), help="where runs go")
    parser.add_argument("--seeds", default="2,3,4")
    parser.add_argument("--words", nargs="*", default=[], help="further settings of lets-train")
    parser.add_argument("--print", action="store_true", help="train nothing")
    asked = parser.parse_args()
    if not asked.print:
        train(asked.output, asked.data_root, asked.seeds, asked.words)
        folder = corrupted(asked.output, asked.data_root, asked.words)
        measure(asked.output, folder)
    print(table(read(KEPT)))


def call(module: str, *words: str) -> None:
    """A command of the package, in a process that finds the problems."""
    paths = [str(HERE / "radius_problems"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", module, *words], env=environment, check=True, stdout=sys.stderr)


def train(output: Path, root: Path, seeds: str, words: Iterable[str]) -> None:
    for method in METHODS.values():
        sweep = (f"data.label_noise={','.join(NOISES)}", f"seed={seeds}")
        places = (f"data.root={quoted(root)}", f"output={quoted(output)}", "device=cpu", "progress=false")
        conf = ("--config-dir", str(HERE / "radius_problems" / "conf"))
        call("lets_runner", "-m", *conf, *PROBLEM, *method, *sweep, *places, *words)


def quoted(path: Path) -> str:
    return QuotedString(str(path), Quote.single).with_quotes()


def corrupted(output: Path, root: Path, words: Iterable[str]) -> Path:
    """The test images in the layout of CIFAR-10-C, for all runs once."""
    folder = output / CORRUPTED
    if folder.exists():
        return folder
    sys.path.insert(0, str(HERE / "radius_problems"))
    from small_images import SmallCIFAR10

    from lets_runner.data.corruptions import SEVERITIES, Corruption

    count = next((int(w.partition("=")[2]) for w in [*words, *PROBLEM] if w.startswith("data.test_images=")), 0)
    test = SmallCIFAR10(root=str(root), train_images=1000, test_images=count).splits().test
    making = output / f"{CORRUPTED}.tmp"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    np.save(making / "labels.npy", np.tile(test.labels.numpy(), SEVERITIES))
    for name in ALL:
        print(f"{CORRUPTED}: {name}", file=sys.stderr, flush=True)
        spoilt = [Corruption(name, severity + 1) for severity in range(SEVERITIES)]
        images = [one(image).permute(1, 2, 0).numpy() for one in spoilt for image in test.images]
        np.save(making / f"{name}.npy", np.stack(images))
    return making.rename(folder)


def measure(output: Path, folder: Path) -> None:
    """Measure every run, and keep what the report says of it."""
    runs = sorted({str(path.parent) for path in output.rglob("summary.json")})
    call("lets_runner.evaluate.command", *runs, "--corrupted", str(folder), "--device", "cpu")
    call("lets_runner.report.command", *runs, "--out", str(output / "report"))
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(output / "report" / "robustness.csv", KEPT)


# Printing.


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(rows: list[dict[str, str]]) -> str:
    """A line a method and share of wrong labels: as they are, and under corruptions, of each kind and of all."""
    heads = ["wrong labels", "method", "accuracy", "ECE", "NLL", *KINDS, "all corruptions", "ECE under them"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for noise in NOISES:
        for method, words in METHODS.items():
            own = [row for row in rows if row["label_noise"] == noise and row["method"] == words[0].partition("=")[2]]
            if not own:
                continue
            clean = next(row for row in own if row["measured_on"] == "test" and not row["corruption"])
            spoilt = [row for row in own if row["measured_on"] == CORRUPTED and row["corruption"]]
            cells = [spread(clean, "accuracy"), spread(clean, "ece"), spread(clean, "nll", 1, ".3f")]
            cells += [f"{100 * mean(spoilt, kind, 'accuracy'):.1f}" for kind in [*KINDS.values(), ALL]]
            cells.append(f"{100 * mean(spoilt, ALL, 'ece'):.1f}")
            lines.append(f"| {100 * float(noise):.0f} % | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(row: dict[str, str], name: str, factor: float = 100, form: str = ".1f") -> str:
    """Mean ± standard deviation over seeds."""
    deviation = row[f"{name}_sd"]
    return f"{factor * float(row[f'{name}_mean']):{form}}" + (
        f" ± {factor * float(deviation):{form}}" if deviation else ""
    )


def mean(rows: Iterable[dict[str, str]], names: Iterable[str], score: str) -> float:
    """Over corruptions, severities and seeds."""
    wanted = {*names}
    return float(np.mean([float(row[f"{score}_mean"]) for row in rows if row["corruption"] in wanted]))


if __name__ == "__main__":
    main()
