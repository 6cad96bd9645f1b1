"""Early stopping: when no epoch has been better than the best for some time."""

from typing import Any

from lets_runner.columns import Column


class Patience:
    """How long it is since the best epoch on validation.

    Args:
        column: by which epochs are compared; the earlier of two that are the same is the better.
        epochs: how many in a row may be no better; None for any number.
    """

    def __init__(self, column: Column, epochs: int | None):
        self.column, self.epochs = column, epochs
        self.best, self.since = float("nan"), 0

    def see(self, value: float) -> None:
        """An epoch has ended with this score."""
        better = self.column.beats(value, self.best)
        self.best, self.since = (value, 0) if better else (self.best, self.since + 1)

    @property
    def is_out(self) -> bool:
        return self.epochs is not None and self.since >= self.epochs

    def plain(self) -> dict[str, Any]:
        """What decided, for the summary of a run."""
        return {"by": f"val_{self.column.name}", "best": self.best, "patience": self.epochs}

    def state_dict(self) -> dict[str, Any]:
        """Its part of a checkpoint: nothing, where there is no limit."""
        return {} if self.epochs is None else {"early_stopping": {"best": self.best, "since": self.since}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take its part of the checkpoint `state`."""
        if self.epochs is not None:
            self.best, self.since = state["early_stopping"]["best"], state["early_stopping"]["since"]
