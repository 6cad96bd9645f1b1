"""How long `lets-report` takes over thousands of runs: `python -m benchmarks.report --help`.

One run of every method is trained, on digits, and copied under other names, label noises and seeds.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

from lets_runner import cli, config

METHODS = ("erm", "sam", "asam", "ramp_sam", "lets_sam", "lets_asam", "gm_sam", "gm_asam")
DATA, MODELS, NOISES = ("digits", "letters"), ("convnet", "mlp"), (0.0, 0.2, 0.4, 0.6)

# A process inherits the peak of the one that starts it: so a small one starts and measures.
PEAK = """
import resource, subprocess, sys
command = [sys.executable, "-m", "lets_runner.report.command", sys.argv[1], "--out", sys.argv[2]]
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def main() -> None:
    """Print a line with the number of runs, seconds and memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=16, help="of each of 128 configurations")
    parser.add_argument("--epochs", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for method in METHODS:
            copy_everywhere(train(root / "template", method, arguments.epochs), root / "runs", method, arguments.seeds)
        count = len(list((root / "runs").rglob("summary.json")))
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(root / "runs"), str(root / "out")],
            check=True,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - started
    print(f"{count} runs: {seconds:.1f} s, at most {2 * int(done.stdout.split()[-1]) // 1024} MB")  # two processes


def train(output: Path, method: str, epochs: int) -> Path:
    """A run directory."""
    cfg, named = cli.compose(f"method={method}", f"epochs={epochs}", f"output={output}", "progress=false")
    directory = config.run_directory(cfg, named)
    cli.train(cfg, directory, named)
    return directory


def copy_everywhere(template: Path, root: Path, method: str, seeds: int) -> None:
    """The run `template` as if it were one of many configurations and seeds."""
    summary = json.loads((template / "summary.json").read_text())
    settings = (template / "config.yaml").read_text().split("\n", 1)[1]
    rows = {name: (template / name).read_bytes() for name in ("epochs.csv", "steps.csv")}
    for data, model, noise in product(DATA, MODELS, NOISES):
        text = settings.replace("label_noise: 0.0", f"label_noise: {noise}", 1).replace("models.", f"models.{model}", 1)
        text = text.replace("data.Digits", f"data.{data}", 1)
        identity = hashlib.sha256(text.encode()).hexdigest()
        for seed in range(seeds):
            directory = root / f"{data}-{model}-{method}" / identity[:8] / f"seed={seed}"
            directory.mkdir(parents=True)
            (directory / "config.yaml").write_text(f"# {identity}\n{text}")
            accuracy = summary["test_accuracy"] - noise / 5 + 0.01 * (seed % 7) / 7
            written = {**summary, "data": data, "model": model, "seed": seed, "test_accuracy": accuracy}
            (directory / "summary.json").write_text(json.dumps(written))
            for name, content in rows.items():
                (directory / name).write_bytes(content)


if __name__ == "__main__":
    main()
