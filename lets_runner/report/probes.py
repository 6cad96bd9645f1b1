"""What lets-probe has measured of runs, as far as tables need it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from lets_runner.report.grid import ABSENT, Cell, Grid, grouped


def probed(grid: Grid) -> list[Cell]:
    """The cells as far as their runs were probed, one for every way of measuring."""
    return [
        replace(cell, runs=alike)
        for cell in grid.cells
        for alike in grouped([run for run in cell.runs if run.probe], lambda run: measured_on(run.probe))
    ]


def measured_on(probe: dict[str, Any]) -> str:
    """Which examples, weights and ascent: numbers that differ in these are not averaged."""
    ascent = (probe.get("settings") or {}).get("sharpness", {})
    words = [f"{probe.get('examples', ABSENT)} {probe.get('split', '')}".strip()]
    words += [f"{probe['checkpoint']}.pt"] if probe.get("checkpoint", "last") != "last" else []
    words += ["float64"] if probe.get("double") else []
    words += [f"m = {ascent['m']}"] if "m" in ascent else []
    words += [f"{ascent['ascent_steps']} steps of ascent"] if ascent.get("ascent_steps", 1) != 1 else []
    return ", ".join(words)


def radii(cells: Iterable[Cell]) -> dict[str, list[str]]:
    """For each kind of sharpness, all the radii that it was measured at."""
    probes = [run.probe for cell in cells for run in cell.runs]
    return {
        kind: sorted({rho for probe in probes for rho in probe.get(kind) or {}}, key=float)
        for kind in ("m_sharpness", "adaptive_sharpness")
    }


def listed(cells: Iterable[Cell], key: str) -> str:
    values = {str(run.probe[key]) for cell in cells for run in cell.runs if key in run.probe}
    return ", ".join(sorted(values)) or ABSENT
