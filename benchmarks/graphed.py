"""Steps as CUDA graphs held against eager steps: the same weights, ρ and losses?"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lets_runner import GraphedStep
from lets_runner.cli import CONF
from lets_runner.optim.graphs.eager import EagerStep

STEPS = 24
EAGER = ("ae_sam", "ae_looksam")  # variants that ask for a number in every step, and so are never captured
UNLEARNED = ("none", "le_sam", "momentum_sam", "sampa")  # variants over which no rule learns a radius
CLOSE = 1e-4  # what rounding may come to over so many steps, in units of the largest weight


class ShortError(Exception):
    """A check that ran and fell short; the text is its figure."""


@dataclass(frozen=True)
class Trajectory:
    """What some steps have come to."""

    weights: list[Tensor]
    rho: float
    losses: Tensor
    graphs: int


def variants() -> list[str]:
    """Every choice of `sam`."""
    return sorted(path.stem for path in (CONF / "sam").glob("*.yaml"))


def same_as_eager(
    sam: str,
    radius: str,
    device: torch.device,
    *,
    graphed: Callable[..., EagerStep] = GraphedStep,
    prepare: Callable[[Any], Any] = lambda optimizer: None,
) -> str:
    """Hold steps of one variant and one rule against each other; returns how far apart they are.

    Args:
        graphed: makes the steps that are captured.
        prepare: is shown the optimizers before their first step.

    Raises:
        ShortError: they are further apart than rounding makes them, or nothing was captured.
    """
    with deterministic():
        first = trajectory(sam, radius, device, EagerStep, prepare)
        second = trajectory(sam, radius, device, EagerStep if sam in EAGER else graphed, prepare)
    scale = max(float(weight.abs().max()) for weight in first.weights)
    apart = max(float((a - b).abs().max()) for a, b in zip(first.weights, second.weights, strict=True)) / scale
    same = apart == 0 and first.rho == second.rho and torch.equal(first.losses, second.losses)
    figure = f"{'to the bit' if same else f'weights {apart:.1e} apart'}, {second.graphs} graphs"
    if not (apart <= CLOSE and abs(first.rho - second.rho) <= CLOSE * first.rho and (second.graphs or sam in EAGER)):
        raise ShortError(f"{figure}, rho {first.rho:.6g} and {second.rho:.6g}")
    return figure


def trajectory(
    sam: str, radius: str, device: torch.device, steps: Callable[..., EagerStep], prepare: Callable[[Any], Any]
) -> Trajectory:
    """Steps of a small network with batch norm and dropout, at a learning rate that changes in every one."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(8 * 36, 5)).to(device)
    batches = [(torch.randn(32, 3, 8, 8).to(device), torch.randint(0, 5, (32,)).to(device)) for _ in range(2 * STEPS)]
    base = torch.optim.SGD(model.parameters(), lr=2.0**-5, momentum=0.9, weight_decay=2.0**-11, fused=True)
    optimizer = choice("radius", radius)(choice("sam", sam)(base, model=model))
    prepare(optimizer)
    reduction = "none" if optimizer.sam.per_sample else "mean"

    def loss(batch: Any) -> Tensor:
        return cross_entropy(model(batch[0]), batch[1], reduction=reduction)

    step, losses = steps(optimizer, loss, loss), []
    for number in range(STEPS):
        base.param_groups[0]["lr"] = 2.0**-5 * (1 - number / 64)  # numbers of float32, in which graphs read them
        losses.append(step(batches[number], batches[-1 - number]).mean().double())
    optimizer.settle()
    if step.reason is not None:
        raise ShortError(step.reason)
    graphs = step.graphs if isinstance(step, GraphedStep) else 0
    return Trajectory([p.detach().double() for p in model.parameters()], optimizer.rho, torch.stack(losses), graphs)


def choice(group: str, name: str) -> Callable[..., Any]:
    """What a yaml of the configuration makes, for a training of `STEPS` steps."""
    chosen = OmegaConf.load(CONF / group / f"{name}.yaml")
    cfg = OmegaConf.create({"seed": 0, "derived": {"total_steps": STEPS}, group: chosen})
    return instantiate(cfg[group], _partial_=True, _convert_="all")


@contextmanager
def deterministic() -> Iterator[None]:
    """Kernels whose results do not vary, where there are such."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
