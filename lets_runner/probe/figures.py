"""Pictures of a loss landscape: curve, contours and surface, each as PNG and as PDF."""

from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lets_runner.columns import Column
from lets_runner.probe.landscape import Landscape

LEVELS = 18  # contour lines, evenly over the logarithm of the loss
SMALLEST_LOSS = 1e-6  # a loss of zero has no logarithm
UNIT = "filter norms"


def draw_curve(landscape: Landscape, name: Path, *, score: Column, title: str) -> None:
    """The loss and `score` along one direction, to `name`.png and `name`.pdf."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    loss = figure.subplots()
    loss.plot(landscape["alpha"], landscape["loss"], color="#0072b2")
    loss.set(xlabel=f"α ({UNIT})", title=title)
    loss.set_ylabel("loss", color="#0072b2")
    loss.grid(alpha=0.3)
    if score.name != "loss":
        other = loss.twinx()
        other.plot(landscape["alpha"], landscape[score.name], color="#d55e00", linestyle="--")
        other.set_ylabel(f"{score.title} (dashed)", color="#d55e00")
        if score.unit == "%":
            other.set_ylim(0, 1.02)
            other.yaxis.set_major_formatter(PercentFormatter(1.0))
    _save(figure, name)


def draw_contours(landscape: Landscape, name: Path, *, title: str) -> None:
    """Lines of equal loss over two directions."""
    loss = np.maximum(_finite(landscape["loss"]), SMALLEST_LOSS)
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    levels = np.geomspace(np.nanmin(loss), np.nanmax(loss) * 1.001, LEVELS)  # distinct, even for a constant loss
    lines = axes.contour(landscape["alpha"], landscape["beta"], loss.T, levels=levels, norm=LogNorm(), cmap="viridis")
    axes.clabel(lines, levels=levels[1::2], fmt=lambda level: f"{level:.2g}", fontsize=7)
    axes.plot(0, 0, marker="x", color="black")
    axes.set(xlabel=f"α ({UNIT})", ylabel=f"β ({UNIT})", title=f"loss of {title}", aspect="equal")
    _save(figure, name)


def draw_surface(landscape: Landscape, name: Path, *, title: str) -> None:
    """The loss as a height over two directions."""
    figure = Figure(figsize=(6.5, 5.5))
    axes = figure.add_subplot(projection="3d")
    alpha, beta = np.meshgrid(landscape["alpha"], landscape["beta"], indexing="ij")
    axes.plot_surface(alpha, beta, _finite(landscape["loss"]), cmap="viridis", rcount=100, ccount=100)
    axes.set(xlabel=f"α ({UNIT})", ylabel=f"β ({UNIT})", zlabel="loss", title=title)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.labelpad = 10
    _save(figure, name)


def _finite(loss: np.ndarray) -> np.ndarray:
    """Holes where the loss overflowed."""
    return np.where(np.isfinite(loss), loss, np.nan)


def _save(figure: Figure, name: Path) -> None:
    for suffix in ("png", "pdf"):
        figure.savefig(name.with_name(f"{name.name}.{suffix}"), dpi=130)
