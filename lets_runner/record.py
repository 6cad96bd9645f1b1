"""What training hands to run directories and trackers. Free of torch, which trackers' processes do without."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """Steps since the record before, and the epoch that they complete, as rows of numbers; nan where there is none."""

    steps: list[dict[str, float]]
    epoch: dict[str, float] | None
    step: int  # steps taken so far
    checkpoint: bool  # whether a checkpoint is due here
