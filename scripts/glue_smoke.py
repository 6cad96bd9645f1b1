"""The table of docs/text.md: a small DeBERTa, untrained, on half of SST-2 with every method; minutes a run on a core.

    python scripts/glue_smoke.py --root sets --output runs/glue_smoke

Trains what is not there yet (6 configurations × 3 seeds), then prints the table in Markdown: accuracy on GLUE's
development set after the one epoch, mean ± standard deviation over seeds, and what it cost. That set chooses nothing;
`--root` is the folder that has `SST-2/train.tsv` and `SST-2/dev.tsv`, or has them in a folder `glue`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

# Network and training; half of the training set is for validation, so that a run takes minutes.
SETTINGS = [
    *("data=glue", "data.task=sst2", "data.val_fraction=0.5", "data.max_length=48"),
    *("model=auto_text", "model.depth=1", "model.width=64"),
    *("epochs=1", "batch_size=64", "optimizer.lr=1e-3", "grad_clip=1", "precision=bf16"),
    *("progress=false", "device=cpu"),
]
METHODS: dict[str, tuple[str, list[float | None]]] = {  # and where their radius stands, or starts
    "erm": ("ERM", [None]),
    "sam": ("SAM", [0.01, 0.05]),
    "asam": ("ASAM", [0.1]),
    "lets_sam": ("LETS over SAM", [0.01]),
    "horizon_sam": ("horizon LETS over SAM", [None]),
}


def quoted(key: str, path: Path) -> str:
    """An override in quotes, for Hydra has a grammar."""
    return f"{key}={QuotedString(str(path), Quote.single).with_quotes()}"


def sweeps(root: Path, output: Path, seeds: int) -> list[list[str]]:
    """The overrides of every multirun, one a method."""
    common = [*SETTINGS, quoted("data.root", root), quoted("output", output)]
    common.append("seed=" + ",".join(map(str, range(seeds))))
    radii = {name: [f"sam.rho={','.join(map(str, r))}"] if r != [None] else [] for name, (_, r) in METHODS.items()}
    return [[f"method={name}", *radii[name], *common] for name in METHODS]


def train(overrides: Sequence[str]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "lets_runner", "-m", *overrides], env=environment, check=True)


def finished(output: Path) -> dict[tuple[str, float | None], list[dict[str, Any]]]:
    """Summaries by method and starting radius."""
    found: dict[tuple[str, float | None], list[dict[str, Any]]] = {}
    for path in sorted(output.rglob("summary.json")):
        summary = json.loads(path.read_text(encoding="utf-8"))
        if summary["status"] == "finished":
            start = None if summary["method"] == "erm" else summary["rho_start"]
            found.setdefault((summary["method"], start), []).append(summary)
    return found


def shown(values: Sequence[float], digits: int = 1) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}"


def table(output: Path) -> str:
    lines = ["| method | ρ, or where it starts | accuracy | ρ at the end | gradient evaluations | seconds |"]
    lines.append("| --- |" + " --- |" * 5)
    runs = finished(output)
    for method, (name, radii) in METHODS.items():
        for rho in radii:
            group = runs.get((method, rho), [])
            if not group:
                continue
            last = "–" if method == "erm" else shown([s["rho"] for s in group], 3)
            cells = [name, "–" if rho is None else str(rho), shown([100 * s["test_accuracy"] for s in group]), last]
            cells += [f"{statistics.mean(s['gradient_evaluations'] for s in group):,.0f}"]
            cells += [f"{statistics.mean(s['seconds'] for s in group):,.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def majority(root: Path) -> float:
    """Share of the larger class of the development set, in %."""
    path = next(p for p in (root / "glue" / "SST-2" / "dev.tsv", root / "SST-2" / "dev.tsv") if p.exists())
    labels = [line.rsplit("\t", 1)[1] for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return 100 * max(labels.count(label) for label in {*labels}) / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="where GLUE's files are")
    parser.add_argument("--output", type=Path, default=Path("runs/glue_smoke"), help="where the runs go")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trainings at a time, a thread each")
    arguments = parser.parse_args()
    with ThreadPoolExecutor(arguments.workers) as pool:
        list(pool.map(train, sweeps(arguments.root.resolve(), arguments.output, arguments.seeds)))
    print(f"{table(arguments.output)}\n\nmajority: {majority(arguments.root):.1f} %")


if __name__ == "__main__":
    main()
