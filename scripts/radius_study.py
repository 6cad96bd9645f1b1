"""The tables of docs/radius.md: a radius that finds itself, beside the best fixed one, ramps, and its own replay.

    python scripts/radius_study.py --data-root data                    # train what is missing, then print
    python scripts/radius_study.py --only cifar10-40 --seeds 2 3       # part of it
    python scripts/radius_study.py --print                             # the tables of what has been trained

Every run is a run of `lets-train` on one thread; what it came to is kept in `--results`, a line a run, and only what is
not there is trained. The constants of horizon LETS were chosen on seeds 0 and 1 of digits and of CIFAR-10 at 40 %
noise; the seeds here are others, and CIFAR-100 and digits with an MLP were never chosen on. The best of a grid
is read off the test set, which flatters it.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from hydra.core.override_parser.types import Quote, QuotedString
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "radius"
STARTS = (0.01, 0.05, 0.1, 0.2, 0.5)
POINTS = 50  # of a trajectory that is kept and replayed
FIELDS = ("problem", "method", "seed", "test_accuracy", "val_accuracy", "rho_last", "evaluations_a_step", "seconds")


ABLATIONS = {
    "every 4": "radius.every=4",
    "validation batches of 32": "val_batch_size=32",
    "c held": "radius.every=1000000",  # it looks once, and learns nothing from its first looks
    "one step at 0.5 first": "radius=one_large_step",
}
LETS_SETTINGS: dict[str, tuple[str, ...]] = {
    "": (),
    ", normalised,": ("radius.rho_optimizer=normalised",),
    ", normalised, validation loss,": ("radius.rho_optimizer=normalised", "radius.objective=val"),
}


@dataclass(frozen=True)
class Problem:
    """What is trained on, and the grids of the methods that have something to choose."""

    title: str
    words: tuple[str, ...]
    seeds: tuple[int, ...]
    sam: tuple[float, ...]
    asam: tuple[float, ...] = ()
    ramps: tuple[float, ...] = ()  # where they end
    lets: tuple[float, ...] = ()  # where LETS starts
    starts: tuple[float, ...] = ()  # of `sam.rho` for horizon LETS, which takes no notice
    ablations: bool = False  # horizon LETS with one thing changed

    def methods(self) -> dict[str, tuple[str, ...]]:
        """The overrides of every line of its table but the replay."""
        found: dict[str, tuple[str, ...]] = {"SGD": ("method=erm",)}
        found |= {f"SAM {rho:g}": ("method=sam", f"sam.rho={rho}") for rho in self.sam}
        found["horizon SAM"] = ("method=horizon_sam",)
        found |= {f"horizon SAM from {rho:g}": ("method=horizon_sam", f"sam.rho={rho}") for rho in self.starts}
        if self.ablations:
            found |= {f"horizon SAM, {name}": ("method=horizon_sam", word) for name, word in ABLATIONS.items()}
        found |= {
            f"ramp to {end:g} at {share:.0%}": (
                "method=ramp_sam",
                "sam.rho=0.01",
                f"radius.cap={end}",
                f"radius.share={share}",
            )
            for end in self.ramps
            for share in (0.5, 1.0)
        }
        found |= {
            f"LETS{name} from {rho:g}": ("method=lets_sam", f"sam.rho={rho}", *words)
            for name, words in LETS_SETTINGS.items()
            for rho in self.lets
        }
        found |= {f"ASAM {rho:g}": ("method=asam", f"sam.rho={rho}") for rho in self.asam}
        if self.asam:
            found["horizon ASAM"] = ("method=horizon_asam",)
        return found


DIGITS = {"plain": (), "batch_norm": ("model.batch_norm=true",), "mlp": ("model=mlp",)}
NETWORKS = {"plain": "convnet", "batch_norm": "convnet with BatchNorm", "mlp": "MLP"}
DIGITS_RADII, DIGITS_ASAM_RADII = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7), (0.25, 0.5, 1.0, 2.0, 4.0)
IMAGE_RADII, IMAGE_ASAM_RADII = (0.025, 0.05, 0.1, 0.2, 0.4), (0.25, 0.5, 1.0, 2.0)
FINE_RADII = (0.0125, 0.025, 0.035, 0.05, 0.07, 0.1, 0.14, 0.2, 0.4)
RAMPS = (0.1, 0.2, 0.3, 0.5)


def problems() -> Iterator[tuple[str, Problem]]:
    for noise in (40, 20, 0):
        yield f"cifar10-{noise}", images(noise)
        for network in DIGITS:
            yield f"digits-{network}-{noise}", digits(network, noise)
    yield "cifar10-40-lr.03", images(40, lr=0.03)
    yield "cifar10-40-long", images(40, epochs=100)
    yield (
        "cifar100-20",
        Problem(
            "CIFAR-100, 16×16, ResNet-8, 20 % wrong labels (held out)",
            ("data=cifar100_small", "model=resnet8", "optimizer.lr=0.1", "data.label_noise=0.2"),
            seeds=(2, 3, 4),
            sam=IMAGE_RADII,
            asam=IMAGE_ASAM_RADII,
            ramps=RAMPS,
        ),
    )


def images(noise: int, *, lr: float = 0.1, epochs: int = 40) -> Problem:
    """CIFAR-10 in small; the whole of the grids where the constants were chosen."""
    title = f"CIFAR-10, 16×16, ResNet-8, {noise} % wrong labels"
    if lr != 0.1:
        title += f", learning rate {lr:g}"
    if epochs != 40:
        title += f", {epochs} epochs"
    words = ("data=cifar10_small", "model=resnet8", f"optimizer.lr={lr}", f"data.label_noise={noise / 100}")
    main = noise == 40 and lr == 0.1 and epochs == 40
    return Problem(
        title,
        words + ((f"epochs={epochs}",) if epochs != 40 else ()),
        seeds=(2, 3, 4),
        sam=FINE_RADII if main else IMAGE_RADII,
        asam=IMAGE_ASAM_RADII if epochs == 40 and lr == 0.1 else (),
        ramps=RAMPS,
        lets=(0.05, 0.2) if main else (),
        starts=(0.01, 0.5) if main else (),
        ablations=main,
    )


def digits(network: str, noise: int) -> Problem:
    noisy = noise == 40
    return Problem(
        f"Digits, {NETWORKS[network]}, {noise} % wrong labels{' (held out)' if network == 'mlp' else ''}",
        (*DIGITS[network], f"data.label_noise={noise / 100}"),
        seeds=(5, 6, 7, 8, 9),
        sam=DIGITS_RADII,
        asam=DIGITS_ASAM_RADII,
        ramps=RAMPS,
        lets=(0.05, 0.2) if noisy else (),
        starts=STARTS if noisy and network != "mlp" else (),
        ablations=noisy and network != "mlp",
    )


PROBLEMS = dict(problems())


class Results:
    """What every run came to, and the mean ρ of every method over the training: two csv files."""

    def __init__(self, folder: Path):
        self.runs_file, self.radii_file = folder / "runs.csv", folder / "trajectories.csv"
        self.runs: dict[tuple[str, str, int], dict[str, str]] = {}
        self.radii: dict[tuple[str, str, int], list[float]] = {}
        self.lock = Lock()
        folder.mkdir(parents=True, exist_ok=True)
        if self.runs_file.exists():
            for row in csv.DictReader(lines_of(self.runs_file)):
                self.runs[row["problem"], row["method"], int(row["seed"])] = row
            for problem, method, seed, *radii in csv.reader(lines_of(self.radii_file)):
                self.radii[problem, method, int(seed)] = [float(rho) for rho in radii]

    def add(self, key: tuple[str, str, int], row: dict[str, str], radii: list[float]) -> None:
        with self.lock:
            self.runs[key], self.radii[key] = row, radii
            order = {name: number for number, name in enumerate(PROBLEMS)}
            keys = sorted(self.runs, key=lambda key: (order[key[0]], key[1], key[2]))
            write_rows(self.radii_file, ([*key, *(f"{rho:.4g}" for rho in self.radii[key])] for key in keys))
            write_rows(self.runs_file, [FIELDS, *([self.runs[key][field] for field in FIELDS] for key in keys)])

    def accuracies(self, problem: str, method: str) -> list[float]:
        return [100 * float(row["test_accuracy"]) for key, row in self.runs.items() if key[:2] == (problem, method)]

    def mean_radii(self, problem: str, method: str) -> list[float]:
        """The geometric mean over seeds."""
        found = [radii for key, radii in self.radii.items() if key[:2] == (problem, method)]
        return np.exp(np.log(np.maximum(found, 1e-6)).mean(0)).tolist()


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def write_rows(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write a csv file so that a kill leaves the old one or the new one."""
    whole = path.with_suffix(".tmp")
    with whole.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    os.replace(whole, path)


# Training.


def train(results: Results, name: str, method: str, words: Iterable[str], seeds: list[int], root: Path) -> None:
    """Train one line of a table with all the seeds that it lacks."""
    missing = [seed for seed in seeds if (name, method, seed) not in results.runs]
    if not missing:
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    paths = [str(HERE / "radius_problems"), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lets_runner", "-m", "--config-dir", str(HERE / "radius_problems" / "conf")]
        problem = PROBLEMS[name]
        rooted = [f"data.root={quoted(root)}"] if problem.words[0].startswith("data=") else []
        seeded = f"seed={','.join(map(str, missing))}"
        command += [*problem.words, *words, *rooted, seeded, "device=cpu", "progress=false", f"output={quoted(folder)}"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        for path in sorted(Path(folder).rglob("summary.json")):
            keep(results, name, method, path)
    print(f"{name}: {method}: {cell(results.accuracies(name, method))}", file=sys.stderr, flush=True)


def quoted(path: Path | str) -> str:
    return QuotedString(str(path), Quote.single).with_quotes()  # Hydra has a grammar


def keep(results: Results, name: str, method: str, path: Path) -> None:
    summary = json.loads(path.read_text(encoding="utf-8"))
    assert summary["status"] == "finished", f"{path}: {summary['status']}"
    with (path.parent / "steps.csv").open(encoding="utf-8") as file:
        rho = [float(row["rho"] or 0) for row in csv.DictReader(file)]
    middles = (np.arange(POINTS) + 0.5) / POINTS
    radii = np.interp(middles, np.linspace(0, 1, len(rho)), rho).tolist()
    row = {
        "problem": name,
        "method": method,
        "seed": str(summary["seed"]),
        "test_accuracy": f"{summary['test_accuracy']:.6f}",
        "val_accuracy": f"{summary['val_accuracy']:.6f}",
        "rho_last": f"{rho[-1]:.4g}",
        "evaluations_a_step": f"{summary['gradient_evaluations'] / summary['step']:.3f}",
        "seconds": f"{summary['seconds']:.1f}",
    }
    results.add((name, method, summary["seed"]), row, radii)


def replay(results: Results, name: str) -> tuple[str, ...]:
    """A plan made of the mean of what horizon LETS learned."""
    radii = results.mean_radii(name, "horizon SAM")
    points = ",".join(f"[{(place + 0.5) / POINTS:.3f},{rho:.5f}]" for place, rho in enumerate(radii))
    return "method=sam", "radius=piecewise", f"radius.points=[{points}]"


def run_all(results: Results, names: list[str], seeds: list[int] | None, root: Path, workers: int) -> None:
    with ThreadPoolExecutor(workers) as pool:
        for lines in (lambda name: PROBLEMS[name].methods(), lambda name: {"replay": replay(results, name)}):
            jobs = [
                pool.submit(train, results, name, method, words, list(seeds or PROBLEMS[name].seeds), root)
                for name in names
                for method, words in lines(name).items()
            ]
            for job in jobs:
                job.result()


# Printing.


def cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}" if values else "–"


def best(results: Results, name: str, beginning: str) -> str:
    """The method of this family with the highest mean test accuracy: read off the test set, as its table says."""
    family = {method for problem, method, _ in results.runs if problem == name and method.startswith(beginning)}
    return max(family, key=lambda method: statistics.mean(results.accuracies(name, method)), default="")


SUMMARY = {
    "SGD": "SGD",
    "best SAM": "SAM ",
    "best ramp": "ramp ",
    "horizon SAM": "horizon SAM",
    "its replay": "replay",
    "best ASAM": "ASAM ",
    "horizon ASAM": "horizon ASAM",
}


def overview(results: Results) -> str:
    lines = ["| problem | " + " | ".join(SUMMARY) + " |", "| --- " * (len(SUMMARY) + 1) + "|"]
    for name, problem in PROBLEMS.items():
        cells = []
        for title, beginning in SUMMARY.items():
            method = best(results, name, beginning) if title.startswith("best") else beginning
            setting = f" ({method.removeprefix(beginning)})" if title.startswith("best") and method else ""
            cells.append(cell(results.accuracies(name, method)) + setting)
        if any(cell != "–" for cell in cells):
            lines.append(f"| {problem.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def table(results: Results, name: str) -> str:
    """Every line of one problem."""
    lines = ["| method | test accuracy, % | ρ at the end | gradient evaluations a step | seconds |", "| --- " * 5 + "|"]
    for method in (*PROBLEMS[name].methods(), "replay"):
        rows = [row for key, row in results.runs.items() if key[:2] == (name, method)]
        if rows:
            means = [
                statistics.mean(float(row[key]) for row in rows)
                for key in ("rho_last", "evaluations_a_step", "seconds")
            ]
            accuracy = cell(results.accuracies(name, method))
            lines.append(f"| {method} | {accuracy} | {means[0]:.3g} | {means[1]:.2f} | {means[2]:.0f} |")
    return "\n".join(lines)


NOTE = (
    "Printed by `python scripts/radius_study.py`. Test accuracy of the last epoch in %, mean ± standard deviation\n"
    "over seeds. Horizon LETS's constants were chosen on other seeds (0 and 1) of digits and of CIFAR-10 at 40 %\n"
    "noise. The best of a grid of radii or ramps is read off the test set, which flatters it."
)
FIGURE = ("cifar10-40", "cifar100-20", "digits-batch_norm-40")


def draw(results: Results, names: Iterable[str] = FIGURE) -> Figure | None:
    """Accuracy over a fixed radius, and what horizon LETS comes to without one; None before there is any."""
    names = [name for name in names if results.accuracies(name, "horizon SAM")]
    if not names:
        return None
    figure = Figure(figsize=(3.6 * len(names), 3.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        problem = PROBLEMS[name]
        grid = [(rho, values) for rho in problem.sam if (values := results.accuracies(name, f"SAM {rho:g}"))]
        if grid:
            means, spreads = zip(*(spread(values) for _, values in grid), strict=True)
            axes.errorbar([rho for rho, _ in grid], means, spreads, marker="o", capsize=3, label="SAM, fixed ρ")
        for method, label, colour in (("horizon SAM", "horizon LETS, no ρ to choose", "C1"), ("SGD", "SGD", "0.4")):
            if values := results.accuracies(name, method):
                mean, width = spread(values)
                axes.axhline(mean, color=colour, label=label)
                axes.axhspan(mean - width, mean + width, color=colour, alpha=0.15)
        axes.set(xscale="log", xlabel="ρ of SAM", title=problem.title.replace(", ", "\n", 1))
        axes.title.set_fontsize(9)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(problem.sam[::2], [f"{rho:g}" for rho in problem.sam[::2]])
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("test accuracy, %")
    figure.axes[0].legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def spread(values: list[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def document(results: Results) -> str:
    found = {key[0] for key in results.runs}
    parts = [overview(results)]
    for name, problem in PROBLEMS.items():
        if name in found:
            seeds = sorted({key[2] for key in results.runs if key[0] == name})
            words = " ".join(problem.words)
            parts.append(
                f"### {problem.title}\n\n`{words}`, seeds {', '.join(map(str, seeds))}.\n\n{table(results, name)}"
            )
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), metavar="problem", help=", ".join(PROBLEMS)
    )
    parser.add_argument("--seeds", nargs="+", type=int, help="instead of the problem's own")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="where CIFAR is")
    parser.add_argument("--results", type=Path, default=DOCS, help="where its two csv files and radius.png are kept")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trainings at a time, a thread each")
    parser.add_argument("--print", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    results = Results(arguments.results)
    if not arguments.print:
        run_all(results, arguments.only, arguments.seeds, arguments.data_root.absolute(), arguments.workers)
    if (figure := draw(results)) is not None:
        figure.savefig(arguments.results / "radius.png", dpi=130)
    tables = document(results)
    (arguments.results / "tables.md").write_text(f"# A radius that finds itself: all tables\n\n{NOTE}\n\n{tables}\n")
    print(tables)


if __name__ == "__main__":
    main()
