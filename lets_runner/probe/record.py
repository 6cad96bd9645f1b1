"""`probe/` in a run directory: what was measured of its weights, written down part by part."""

import json
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lets_runner.columns import Column
from lets_runner.probe import figures
from lets_runner.probe.landscape import Landscape
from lets_runner.run.files import write_json, write_whole

# What all parts of a record have in common: it never mixes results of other weights or other examples.
COMMON = ("checkpoint", "step", "weights", "split", "examples", "seed", "double")
LANDSCAPES = ("landscape_1d", "landscape_2d")


class Record:
    """`probe.json` and the files beside it. What an earlier call has measured stays, if it has all of `COMMON`.

    Args:
        directory: of the run.
        facts: what holds for every part, `COMMON` among it; goes into `probe.json`.
    """

    def __init__(self, directory: Path, facts: dict[str, Any]):
        self.folder = directory / "probe"
        self.title = "  ".join(directory.resolve().parts[-3:])
        before = self._read()
        same = all(before.get(key) == facts[key] for key in COMMON)
        self.outdated = bool(before) and not same
        self.facts: dict[str, Any] = {"settings": {}, **(before if same else {}), **facts}

    def has(self, part: str, settings: dict[str, Any]) -> bool:
        """Whether `part` is there, as measured with these settings."""
        files = [self.folder / f"{name}.npz" for name in LANDSCAPES] if part == "landscape" else []
        return self.facts["settings"].get(part) == settings and all(file.exists() for file in files)

    def add(self, part: str, settings: dict[str, Any], results: dict[str, Any]) -> None:
        """Write `part` down, in place of what was there of it."""
        self.facts.update(results)
        self.facts["settings"][part] = settings
        self._write()

    def add_landscapes(self, settings: dict[str, Any], curve: Landscape, surface: Landscape, *, score: Column) -> None:
        """Write the arrays as npz, and draw them."""
        self._make_way()
        for name, arrays in zip(LANDSCAPES, (curve, surface), strict=True):
            write_whole(self.folder / f"{name}.npz", partial(_save_arrays, arrays))
        figures.draw_curve(curve, self.folder / "landscape_1d", score=score, title=self.title)
        figures.draw_contours(surface, self.folder / "landscape_2d_contour", title=self.title)
        figures.draw_surface(surface, self.folder / "landscape_2d_surface", title=self.title)
        self.add("landscape", settings, {})

    def _read(self) -> dict[str, Any]:
        try:
            facts = json.loads((self.folder / "probe.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) and isinstance(facts.get("settings"), dict) else {}

    def _write(self) -> None:
        self._make_way()
        write_json(self.folder / "probe.json", self.facts)

    def _make_way(self) -> None:
        """Before anything is written: the folder, without the pictures of other weights."""
        self.folder.mkdir(exist_ok=True)
        if self.outdated:
            for file in self.folder.glob("landscape_*"):
                file.unlink()
            self.outdated = False


def _save_arrays(arrays: Landscape, file: BinaryIO) -> None:
    np.savez(file, **arrays)  # type: ignore[arg-type]
