"""Trackers: other places than the csv files that hear of a run while it trains. They are never needed for it."""

from lets_runner.trackers.guard import Guard
from lets_runner.trackers.tracker import Tracker

__all__ = ["Guard", "Tracker"]
