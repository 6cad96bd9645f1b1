"""The README's table: digits with 40 % label noise, every radius rule from five starts, with and without BatchNorm.

    python scripts/digits_noise.py --output runs/digits_noise

Trains what is not there yet (2 × 26 configurations × 5 seeds, about 20 minutes on two cores), then prints the table in
Markdown: test accuracy of the last epoch, mean ± standard deviation over seeds. The test set chooses nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

RADII = (0.01, 0.05, 0.1, 0.2, 0.5)
RULES = {
    "sam": ("fixed", "SAM, fixed ρ"),
    "lets_sam": ("lets", "LETS"),
    "lets_paper_sam": ("lets_paper", "LETS, the paper's preset"),
    "gm_sam": ("gap_matching", "gap matching"),
    "ramp_sam": ("ramp", "ramp (control)"),
}
NETWORKS = {"plain": ("false", "Convnet"), "batch_norm": ("true", "Convnet with BatchNorm")}


def folder(output: Path, noise: float, network: str) -> Path:
    """Where its runs go: apart from those under other noise, for the table takes all that it finds there."""
    return output / f"noise={noise}" / network


def sweeps(output: Path, seeds: int, noise: float) -> list[list[str]]:
    """The overrides of every multirun, one per network and rule."""
    commands = []
    for network, (batch_norm, _) in NETWORKS.items():
        path = QuotedString(str(folder(output, noise, network)), Quote.single).with_quotes()  # Hydra has a grammar
        common = [
            f"output={path}",
            f"model.batch_norm={batch_norm}",
            f"data.label_noise={noise}",
            "progress=false",
            "seed=" + ",".join(map(str, range(seeds))),
        ]
        commands.append(["method=erm", *common])
        radii = ",".join(map(str, RADII))
        commands += [["method=sam", f"radius={radius}", f"sam.rho={radii}", *common] for radius, _ in RULES.values()]
    return commands


def train(overrides: list[str]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "lets_runner", "-m", *overrides], env=environment, check=True)


def accuracies(runs: Path) -> dict[tuple[str, float | None], list[float]]:
    """Test accuracies in % of the finished ones of `runs`, by method and starting radius."""
    found: dict[tuple[str, float | None], list[float]] = {}
    for path in sorted(runs.rglob("summary.json")):
        summary = json.loads(path.read_text(encoding="utf-8"))
        if summary["status"] == "finished":
            key = (summary["method"], summary["rho_start"])
            found.setdefault(key, []).append(100 * summary["test_accuracy"])
    return found


def cell(values: list[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {spread:.1f}"


def table(output: Path, noise: float) -> str:
    lines = []
    for network, (_, title) in NETWORKS.items():
        found = accuracies(folder(output, noise, network))
        lines += [
            f"| {title} | " + " | ".join(f"ρ₀ = {rho}" for rho in RADII) + " |",
            "| --- |" + " --- |" * len(RADII),
        ]
        lines.append(f"| SGD (no ρ) | {cell(found[('erm', None)])} |" + " |" * (len(RADII) - 1))
        for method, (_, name) in RULES.items():
            lines.append(f"| {name} | " + " | ".join(cell(found[method, rho]) for rho in RADII) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("runs/digits_noise"), help="where the runs go")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--noise", type=float, default=0.4, help="share of wrong labels")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trainings at a time, a thread each")
    arguments = parser.parse_args()
    with ThreadPoolExecutor(arguments.workers) as pool:
        list(pool.map(train, sweeps(arguments.output, arguments.seeds, arguments.noise)))
    print(table(arguments.output, arguments.noise))


if __name__ == "__main__":
    main()
