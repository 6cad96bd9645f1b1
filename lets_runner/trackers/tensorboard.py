"""TensorBoard: event files in the run directory, for `tensorboard --logdir runs`."""

import json
from pathlib import Path
from typing import Any

from lets_runner.record import Record
from lets_runner.trackers.tracker import Tracker, numbers


class TensorBoard(Tracker):
    """Scalars, the configuration and the summary as text, and `curves.png`, in `<run directory>/tensorboard`.

    A run that goes on opens a new event file which declares the steps past its checkpoint void; they are logged again.
    """

    packages = ("tensorboard",)
    extra = "tensorboard"

    def start(
        self, directory: Path, *, experiment: str, name: str, config: dict[str, Any], known_as: str | None, step: int
    ) -> str:
        from torch.utils.tensorboard import SummaryWriter

        known = known_as is not None
        self.writer = SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1 if known else None)
        if not known:
            self.writer.add_text("config", _as_text(config))
        return "tensorboard"

    def log(self, record: Record) -> None:
        for step, values in self.points(record):
            for tag, value in values.items():
                self.writer.add_scalar(tag, value, step)
        self.writer.flush()  # its own thread writes; here its failures come to light

    def finish(self, summary: dict[str, Any], files: list[Path]) -> None:
        import numpy as np
        from PIL import Image

        step = summary.get("step", 0)
        for tag, value in numbers("summary", summary).items():
            self.writer.add_scalar(tag, value, step)
        self.writer.add_text("summary", _as_text(summary), step)
        for path in files:
            if path.suffix == ".png":
                self.writer.add_image(path.stem, np.asarray(Image.open(path).convert("RGB")), step, dataformats="HWC")
        self.writer.close()


def _as_text(value: Any) -> str:
    """Markdown that shows `value` as it is."""
    return "".join(f"    {line}\n" for line in json.dumps(value, indent=2, ensure_ascii=False).splitlines())
