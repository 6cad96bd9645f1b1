"""Trackers of the tests. They run in processes of their own, which are quick to start if nothing large is imported."""

import os
import pickle
import random
import signal
import sys
import threading
import time

from lets_runner.record import Record
from lets_runner.trackers import Tracker

HEARD = "heard.pkl"  # in the run directory


class Listener(Tracker):
    """Writes down what it is told and in which process, and at `moment` does `deed`."""

    def __init__(self, *, moment="", deed="raise", **settings):
        super().__init__(**settings)
        self.moment, self.deed = moment, deed

    def start(self, directory, **about):
        self.directory = directory.absolute()
        return self._hear("start", {"directory": directory, **about}) or "number 7"

    def log(self, record):
        self._hear("log", record)

    def finish(self, summary, files):
        self._hear("finish", (summary, files))

    def _hear(self, moment, what):
        with open(self.directory / HEARD, "ab") as file:
            pickle.dump((moment, what, os.getpid()), file)
        if moment == self.moment:
            match self.deed:
                case "raise":
                    raise OSError("no space left\non device")
                case "exit":
                    sys.exit(3)
                case "die":
                    os._exit(3)
                case "hang":
                    time.sleep(60)
                case "stop the run":
                    os.kill(os.getppid(), signal.SIGTERM)
                    self.moment = ""  # a second signal is not waited for
                case "seed and draw":
                    import numpy as np
                    import torch

                    for _ in range(200):
                        torch.manual_seed(3), torch.rand(7), random.seed(3), np.random.seed(3)
                case "go away":
                    os.chdir("/")
                    os.umask(0o777)
                    os.environ.clear()
                case "change what it is told":
                    record = what if isinstance(what, Record) else Record([], None, 0, False)
                    record.steps.clear()
                    (record.epoch or {}).clear()


class Unpicklable(Listener):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.lock = threading.Lock()


class Busy(Tracker):
    def start(self, directory, **about):
        self.directory = directory
        return "busy"

    def log(self, record):
        pass

    def finish(self, summary, files):
        end = time.process_time() + 2.5  # of the processor, however little of it there is
        while time.process_time() < end:
            pass
        (self.directory / "done").touch()


def heard(directory):
    """What the listener of a run was told: [(moment, what, process)]."""
    found = []
    with open(directory / HEARD, "rb") as file:
        while file.peek(1):
            found.append(pickle.load(file))
    return found
