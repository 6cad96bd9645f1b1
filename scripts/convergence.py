"""The figure of docs/radius.md on convergence: the mean of ‖∇L‖² over a training of T steps, against T.

    python scripts/convergence.py                    # train, a few minutes on one core; write docs/convergence/
    python scripts/convergence.py --print            # the table of what has been trained

A smooth, non-convex problem, so that the analyses of SGD and SAM apply: regression by a network of tanh units in
float64, minibatches, a learning rate in proportion to 1/√T that is constant in a training. What an O(1/√T) bound
promises is a slope of −½ or steeper in log-log. A radius that stays leaves a bias: SAM looks for a θ at which the
gradient at θ + ρε̂ is zero, so ‖∇L(θ)‖ levels off in proportion to ρ.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lets_runner import LETS, SAM, FixedRadius, HorizonLETS, RadiusRule, UnperturbedSAM

DOCS = Path(__file__).parents[1] / "docs" / "convergence"
LENGTHS = tuple(2**power for power in range(8, 15))  # T
SEEDS = (0, 1, 2)
EXAMPLES, INPUTS, HIDDEN, BATCH = 512, 8, 16, 32
LR = 3.0  # η = LR / √T
NOISE = 0.3  # standard deviation of what is added to the targets: gradients of minibatches do not vanish together
FITTED = 5  # of the longest trainings, through which a slope is laid
FIELDS = ("method", "steps", "seed", "mean_square", "rho_last")

Make = Callable[[torch.optim.Optimizer, int], RadiusRule]
METHODS: dict[str, Make] = {
    "SGD": lambda base, steps: FixedRadius(UnperturbedSAM(base)),
    "SAM, ρ = 0.1": lambda base, steps: FixedRadius(SAM(base, 0.1)),
    "SAM, ρ = 1/√T": lambda base, steps: FixedRadius(SAM(base, steps**-0.5)),
    "LETS": lambda base, steps: LETS(SAM(base, 0.1), rho_lr="auto", total_steps=steps),
    "LETS, normalised": lambda base, steps: LETS(
        SAM(base, 0.1), rho_lr="auto", rho_optimizer="normalised", total_steps=steps
    ),
    "LETS, the paper's preset": lambda base, steps: LETS(
        SAM(base, 0.1),
        curvature="diag",
        upper_batch="same",
        gap_ema=0.0,
        bounds=(0.0, float("inf")),
        rho_lr=1e-4,
        rho_eps=1e-8,
        lr_invariant=False,
    ),
    "horizon LETS": lambda base, steps: HorizonLETS(SAM(base), total_steps=steps),
}


class Problem:
    """Training and validation examples of one teacher, and a network that starts the same for every method."""

    def __init__(self, seed: int):
        self.draw = torch.Generator().manual_seed(seed)
        teacher = self.network()
        self.model = self.network()
        self.inputs = torch.randn(2, EXAMPLES, INPUTS, generator=self.draw, dtype=torch.float64)
        with torch.no_grad():
            clean = teacher(self.inputs)
        self.targets = clean + NOISE * torch.randn(clean.shape, generator=self.draw, dtype=torch.float64)

    def network(self) -> nn.Sequential:
        model = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1)).double()
        with torch.no_grad():
            for param in model.parameters():
                size = (param[0].numel() if param.ndim > 1 else INPUTS) ** -0.5
                param.copy_(2 * size * torch.randn(param.shape, generator=self.draw, dtype=torch.float64))
        return model

    def loss(self, part: int, index: Tensor | slice = slice(None)) -> Tensor:
        """Half the mean squared error on examples of part 0, training, or 1, validation."""
        return (self.model(self.inputs[part, index]) - self.targets[part, index]).square().mean() / 2

    def batch(self) -> Tensor:
        return torch.randint(EXAMPLES, (BATCH,), generator=self.draw)

    def square(self) -> float:
        """‖∇L‖² of all training examples."""
        gradients = torch.autograd.grad(self.loss(0), list(self.model.parameters()))
        return sum(float(gradient.square().sum()) for gradient in gradients)


def train(make: Make, steps: int, seed: int) -> tuple[float, float]:
    """The mean of ‖∇L(θ_t)‖² over the steps, and the radius of the last one."""
    problem = Problem(seed)
    optimizer = make(torch.optim.SGD(problem.model.parameters(), lr=LR * steps**-0.5), steps)
    total = 0.0
    for _ in range(steps):
        total += problem.square()  # in every step: the first ones are large, and to look now and then would show them
        index, val_index = problem.batch(), problem.batch()
        optimizer.step(lambda: problem.loss(0, index), lambda: problem.loss(1, val_index))  # noqa: B023
    return total / steps, float(optimizer.last.rho_applied)


def run_all() -> Iterator[dict[str, str]]:
    for method, make in METHODS.items():
        for steps in LENGTHS:
            for seed in SEEDS:
                square, rho = train(make, steps, seed)
                values = (method, steps, seed, f"{square:.6g}", f"{rho:.4g}")
                yield dict(zip(FIELDS, map(str, values), strict=True))
            print(f"{method}, {steps} steps: {square:.3g}, rho {rho:.3g}", flush=True)


def means(rows: list[dict[str, str]], method: str, field: str) -> list[float]:
    """The geometric mean over seeds for every T."""
    found = [[float(r[field]) for r in rows if (r["method"], int(r["steps"])) == (method, steps)] for steps in LENGTHS]
    return [float(np.exp(np.log(values).mean())) for values in found]


def slope(squares: list[float]) -> float:
    """Of the line through the longest trainings in log-log."""
    return float(np.polyfit(np.log(LENGTHS[-FITTED:]), np.log(squares[-FITTED:]), 1)[0])


def table(rows: list[dict[str, str]]) -> str:
    lines = [
        f"| method | mean of ‖∇L‖² at T = {LENGTHS[0]} | at T = {LENGTHS[-1]} | slope | ρ of the last step there |",
        "| --- " * 5 + "|",
    ]
    for method in METHODS:
        squares = means(rows, method, "mean_square")
        rho = "–" if method == "SGD" else f"{means(rows, method, 'rho_last')[-1]:.3g}"
        lines.append(f"| {method} | {squares[0]:.3g} | {squares[-1]:.3g} | {slope(squares):.2f} | {rho} |")
    return "\n".join(lines)


def draw(rows: list[dict[str, str]]) -> Figure:
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for method, marker in zip(METHODS, "osD^v<*", strict=True):
        axes.loglog(LENGTHS, means(rows, method, "mean_square"), marker=marker, markersize=5, label=method)
    first = means(rows, "SGD", "mean_square")[0]
    line = [1.6 * first * (steps / LENGTHS[0]) ** -0.5 for steps in LENGTHS]
    axes.loglog(LENGTHS, line, color="0.5", linestyle="--", label="slope −½")
    axes.set_xlabel("T, steps of the training")
    axes.set_ylabel("mean of ‖∇L(θ)‖² over the training")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False, fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DOCS, help="where runs.csv and convergence.png go")
    parser.add_argument("--print", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    file = arguments.out / "runs.csv"
    if not arguments.print:
        rows = list(run_all())
        arguments.out.mkdir(parents=True, exist_ok=True)
        with file.open("w", encoding="utf-8", newline="") as opened:
            writer = csv.DictWriter(opened, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    rows = list(csv.DictReader(file.open(encoding="utf-8")))
    draw(rows).savefig(arguments.out / "convergence.png", dpi=130)
    print(table(rows))


if __name__ == "__main__":
    main()
