"""Weights & Biases: offline into the run directory, for `wandb sync`, or online."""

from pathlib import Path
from typing import Any, Literal

from lets_runner.record import Record
from lets_runner.trackers.tracker import Tracker, numbers

Mode = Literal["offline", "online"]


class WandB(Tracker):
    """One W&B run a run, grouped by data set and model, in `<run directory>/wandb`.

    A run that goes on has the same id. Offline it is another folder, which `wandb sync` takes after the first; online
    W&B ignores the rows past the checkpoint that are logged again. Of a run that is killed, W&B loses the rows that it
    had not flushed.

    Args:
        project: of W&B.
        entity: a user's or team's name; None for who is logged in.
        mode: offline, or online, which wants `wandb login` once.
        settings: those of every `Tracker`.
    """

    packages = ("wandb",)
    extra = "wandb"

    def __init__(self, *, project: str, entity: str | None = None, mode: Mode = "offline", **settings: Any):
        if mode not in ("offline", "online"):
            raise ValueError(f"mode={mode}: must be offline or online")
        super().__init__(**settings)
        self.project, self.entity, self.mode = project, entity, mode

    def start(
        self, directory: Path, *, experiment: str, name: str, config: dict[str, Any], known_as: str | None, step: int
    ) -> str:
        import wandb

        # The terminal is the run's: no messages on it, and a missing key is an error and not a question.
        wandb.setup(wandb.Settings(silent=True, show_info=False, show_warnings=False))
        self.run = wandb.init(
            project=self.project,
            entity=self.entity,
            group=experiment,
            name=name,
            dir=str(directory),
            mode=self.mode,
            config=config,
            id=known_as,
            resume="allow" if self.mode == "online" else None,
            # create_new: another run of a sweep is another run of W&B, even if the one before was not finished
            settings=wandb.Settings(console="off", silent=True, reinit="create_new"),
        )
        return self.run.id

    def log(self, record: Record) -> None:
        for step, values in self.points(record):
            self.run.log(values, step=step)

    def finish(self, summary: dict[str, Any], files: list[Path]) -> None:
        self.run.summary.update(numbers("summary", summary))
        for path in files:
            self.run.save(str(path), base_path=str(path.parent), policy="now")
        self.run.finish(exit_code=int(summary.get("status") != "finished"))
