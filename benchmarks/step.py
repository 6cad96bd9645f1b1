"""What a step costs, as a multiple of the base optimizer's: `python -m benchmarks.step --help`.

All contenders run in one process and in turns, so that a change of the machine's speed meets them alike; a figure is
the median over the rounds of (its seconds a step) / (SGD's seconds a step in the same round). Memory is the peak of all
tensors in a step beyond SGD's, in multiples of P, the memory of the parameters, on a batch so small that activations
do not matter.
"""

import argparse
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.contenders import Bench, Contender
from benchmarks.memory import peak
from lets_runner.models import ConvNet, resnet18

MODELS: dict[str, tuple[tuple[int, int, int], Any]] = {
    "small": ((1, 8, 8), ConvNet),
    "resnet18": ((3, 32, 32), resnet18),
}
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
TINY_BATCH = 2


def main() -> None:
    """Print a table as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", choices=MODELS, default="resnet18")
    parser.add_argument("--precision", choices=DTYPES, default="fp32")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="+", help="names of contenders; SGD is always there")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)

    bench = make_bench(arguments.model, arguments.precision, arguments.batch_size, device)
    names = [name for name in bench.all() if arguments.only is None or name in (*arguments.only, "SGD")]
    seconds = measure_seconds(bench, names, arguments.rounds)
    memory = measure_memory(make_bench(arguments.model, arguments.precision, TINY_BATCH, device), names)

    print(
        f"{arguments.model}, {arguments.precision}, batches of {arguments.batch_size}, {arguments.rounds} rounds, on "
    )
    print(f"{machine(device)}, torch {torch.__version__}\n")
    print("| step | x SGD | lowest to highest | x SAM | ms | memory beyond SGD's, P |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in names:
        print(row(name, seconds, memory))


def row(name: str, seconds: dict[str, list[float]], memory: dict[str, float]) -> str:
    """A line of the table."""
    ratios = [own / base for own, base in zip(seconds[name], seconds["SGD"], strict=True)]
    sam = "-"
    if "SAM" in seconds:
        sam = f"{statistics.median(a / b for a, b in zip(seconds[name], seconds['SAM'], strict=True)):.3f}"
    cells = [
        name,
        f"{statistics.median(ratios):.3f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        sam,
        f"{1000 * statistics.median(seconds[name]):.1f}",
        f"{memory[name] - memory['SGD']:+.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def make_bench(model: str, precision: str, batch_size: int, device: torch.device) -> Bench:
    """Random images of the shape that the model is for."""
    torch.manual_seed(0)
    shape, build = MODELS[model]
    network: nn.Module = build(shape, 10).to(device)
    batches = [(torch.randn(batch_size, *shape), torch.randint(0, 10, (batch_size,))) for _ in range(2)]
    train, val = ((x.to(device), y.to(device)) for x, y in batches)
    return Bench(network, train, val, DTYPES[precision])


def measure_seconds(bench: Bench, names: list[str], rounds: int) -> dict[str, list[float]]:
    """Of a step, in every round."""
    contenders = {name: bench.all()[name]() for name in names}
    for contender in contenders.values():
        contender.turn()  # allocates what is allocated once
        contender.turn()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(timed(contender, bench.device))
    return seconds


def timed(contender: Contender, device: torch.device) -> float:
    """Seconds a step of one turn."""
    synchronize(device)
    started = time.perf_counter()
    contender.turn()
    synchronize(device)
    return (time.perf_counter() - started) / contender.steps


def measure_memory(bench: Bench, names: list[str]) -> dict[str, float]:
    """Peak of every contender in multiples of the memory of the parameters."""
    unit = sum(p.numel() * p.element_size() for p in bench.model.parameters())
    peaks = {}
    for name in names:
        contender = bench.all()[name]()
        for _ in range(2):
            contender.turn()
        peaks[name] = peak(contender.turn, bench.device) / unit
        del contender
    return peaks


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine(device: torch.device) -> str:
    """A name for the tables."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    models = [line.split(":")[1].strip() for line in _cpu_facts() if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()}, {torch.get_num_threads()} threads"


def _cpu_facts() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
