"""What a step costs, as a multiple of the base optimizer's: `python -m benchmarks.step --help`.

All contenders run in one process and take turns of one step, so that changes of the machine's speed affect all;
a figure is the median over the rounds of (its seconds) / (SGD's seconds in the same round); of one that learns from
every tenth step only, ten rounds count as one. Memory is the peak of all
tensors in a step beyond SGD's, in multiples of P, the memory of the parameters, on a batch so small that activations
do not matter.
"""

import argparse
import math
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.contenders import Bench, Contender
from benchmarks.memory import peak
from lets_runner.build import pick_device
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
    parser.add_argument("--rounds", type=int, default=10, help="steps of each; a small model wants hundreds")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--graphs", action="store_true", help="steps as CUDA graphs, those of SGD too")
    parser.add_argument("--compile", action="store_true", help="compile the models, inside of graphs too")
    parser.add_argument("--channels-last", action="store_true", help="memory format of images and convolutions")
    parser.add_argument("--only", nargs="+", help="names of contenders; SGD is always there")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    if arguments.graphs and device.type != "cuda":
        parser.error(f"--graphs: CUDA graphs need a CUDA device, not {device}")
    torch.backends.cudnn.benchmark = True

    form: Any = {name: getattr(arguments, name) for name in ("graphs", "compile", "channels_last")}
    bench = make_bench(arguments.model, arguments.precision, arguments.batch_size, device, **form)
    names = [name for name in bench.all() if arguments.only is None or name in (*arguments.only, "SGD")]
    periods, seconds = measure_seconds(bench, names, arguments.rounds)
    eager = make_bench(arguments.model, arguments.precision, TINY_BATCH, device)
    memory = measure_memory(eager, [name for name in names if name in eager.all()])

    ways = "".join(f", {name.replace('_', ' ')}" for name, asked in form.items() if asked)
    print(f"{arguments.model}, {arguments.precision}{ways}, batches of {arguments.batch_size},")
    print(f"{len(seconds['SGD'])} rounds on {machine(device)}, torch {torch.__version__}\n")
    print("| step | x SGD | lowest to highest | x SAM | ms | memory beyond SGD's, P |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in names:
        print(row(name, periods[name], seconds, memory))


def row(name: str, period: int, seconds: dict[str, list[float]], memory: dict[str, float]) -> str:
    """A line of the table."""
    ratios = quotients(seconds[name], seconds["SGD"], period)
    sam = f"{statistics.median(quotients(seconds[name], seconds['SAM'], period)):.3f}" if "SAM" in seconds else "-"
    cells = [
        name,
        f"{statistics.median(ratios):.3f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        sam,
        f"{1000 * statistics.median(sums(seconds[name], period)) / period:.1f}",
        f"{memory[name] - memory['SGD']:+.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def quotients(own: list[float], other: list[float], period: int) -> list[float]:
    """Of the sums over `period` rounds each."""
    return [a / b for a, b in zip(sums(own, period), sums(other, period), strict=True)]


def sums(values: list[float], period: int) -> list[float]:
    """Over `period` values each."""
    return [sum(values[start : start + period]) for start in range(0, len(values), period)]


def make_bench(
    model: str,
    precision: str,
    batch_size: int,
    device: torch.device,
    *,
    graphs: bool = False,
    compile: bool = False,
    channels_last: bool = False,
) -> Bench:
    """Random images of the shape that the model is for."""
    torch.manual_seed(0)
    shape, build = MODELS[model]
    memory: Any = {"memory_format": torch.channels_last if channels_last else torch.contiguous_format}
    network: nn.Module = build(shape, 10).to(device).to(**memory)
    batches = [(torch.randn(batch_size, *shape), torch.randint(0, 10, (batch_size,))) for _ in range(2)]
    train, val = ((x.to(device).contiguous(**memory), y.to(device)) for x, y in batches)
    return Bench(network, train, val, DTYPES[precision], graphs=graphs, compiled=compile)


def measure_seconds(bench: Bench, names: list[str], rounds: int) -> tuple[dict[str, int], dict[str, list[float]]]:
    """Periods, and seconds of a step in every round: as many rounds as whole periods take."""
    contenders = {name: bench.all()[name]() for name in names}
    periods = {name: contender.period for name, contender in contenders.items()}
    for contender in contenders.values():
        for _ in range(contender.first):
            contender.turn()  # allocates what is allocated once, and captures graphs
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(math.lcm(*periods.values()) * math.ceil(rounds / math.lcm(*periods.values()))):
        for name, contender in contenders.items():
            seconds[name].append(timed(contender, bench.device))
    return periods, seconds


def timed(contender: Contender, device: torch.device) -> float:
    """Seconds of one turn."""
    synchronize(device)
    started = time.perf_counter()
    contender.turn()
    synchronize(device)
    return time.perf_counter() - started


def measure_memory(bench: Bench, names: list[str]) -> dict[str, float]:
    """Peak of every contender in multiples of the memory of the parameters."""
    unit = sum(p.numel() * p.element_size() for p in bench.model.parameters())
    peaks = {}
    for name in names:
        contender = bench.all()[name]()
        for _ in range(2):
            contender.turn()
        peaks[name] = max(peak(contender.turn, bench.device) for _ in range(contender.period)) / unit
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
