"""Runs that are killed, and what a killed run must share with one that was not."""

import json
import multiprocessing
import os
import signal

import torch
from conftest import train

from lets_runner.report.curves import read_columns
from lets_runner.run.directory import Run

FORK = multiprocessing.get_context("fork")
SHORT = ("data.val_fraction=0.2", "batch_size=128", "checkpoint.every_steps=3", "model=mlp", "model.width=8")


def in_child(work, *arguments):
    """Run `work` in a forked process; returns its exit code, negative for a signal."""
    child = FORK.Process(target=work, args=arguments)
    child.start()
    child.join(120)
    return child.exitcode


def state_of(directory):
    """Everything that a killed run must share with one that was not: weights, state, rows but for the seconds."""
    checkpoint = torch.load(directory / "checkpoints" / "last.pt", weights_only=True)
    checkpoint.pop("seconds")
    epochs = read_columns(directory / "epochs.csv")
    epochs.pop("seconds")
    best = torch.load(directory / "checkpoints" / "best.pt", weights_only=True)["model"]
    summary = json.loads((directory / "summary.json").read_text())
    summary = {key: value for key, value in summary.items() if key not in ("seconds", "peak_memory")}
    return flatten([checkpoint, best]), repr(epochs), (directory / "steps.csv").read_bytes(), summary


def flatten(value, path=""):
    if isinstance(value, dict):
        return [leaf for key in value for leaf in flatten(value[key], f"{path}/{key}")]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in flatten(item, f"{path}/{index}")]
    return [(path, value.numpy().tobytes() if isinstance(value, torch.Tensor) else value)]


def killed_at(output, name, moment, after):
    """Train, and die by SIGKILL before or after the call number `moment` of `os.<name>`."""
    real, calls = getattr(os, name), 0

    def deadly(*arguments, **settings):
        nonlocal calls
        calls += 1
        if calls == moment and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **settings)
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(os, name, deadly)
    train(output, *SHORT)


def killed_after_step(output, step, settings):
    real = Run.save

    def save(self, state, **options):
        real(self, state, **options)
        if state["step"] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    Run.save = save
    train(output, *settings)
