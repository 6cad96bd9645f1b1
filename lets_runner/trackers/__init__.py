"""Trackers: services that follow a run while it trains, beside the csv files. No run depends on one."""

from lets_runner.trackers.guard import Guard
from lets_runner.trackers.tracker import Tracker

__all__ = ["Guard", "Tracker"]
