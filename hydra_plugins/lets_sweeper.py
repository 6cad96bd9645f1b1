"""The sweeper of `lets-train -m`: runs what is not finished yet, and says at the end how it went.

Hydra looks for sweepers in this namespace, in every program that uses it; so nothing heavy is loaded before a sweep.
"""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser


class LetsSweeper(BasicSweeper):
    """Every combination of the values that are swept over; a run that has finished before is not launched.

    Args:
        params: {key: values}, the sweep of a configuration; what the command line says of a key wins.
        grids: a list of such sweeps, to be run one beside the other, each with `params`.
    """

    def __init__(self, params: Mapping[str, Any], grids: Sequence[Mapping[str, Any]]):
        super().__init__(max_batch_size=None, params=dict(params))
        self.grids = grids
        self._composed: dict[tuple[str, ...], Any] = {}

    def sweep(self, arguments: list[str]) -> None:
        """Launch what is missing or unfinished, and print a line that sums up.

        Raises:
            SystemExit: some run is not finished in the end.
        """
        from lets_runner import interrupt
        from lets_runner.console import say
        from lets_runner.distributed import rank
        from lets_runner.sweep import Sweep

        assert self.launcher is not None and self.hydra_context is not None
        jobs = combinations(self.params, self.grids, arguments, self.hydra_context.config_loader)
        sweep = Sweep({self._directory(job): job for job in jobs})
        parallel = type(self.launcher).__name__ == "JoblibLauncher"  # whose workers a Ctrl-C comes to as well
        came: list[bool] | None = None
        try:
            with interrupt.deferred() if parallel else interrupt.raised() as came:
                sweep.run(partial(self.launcher.launch, initial_job_idx=0))
        finally:
            if rank() == 0:
                say(sweep.result())
        if came:
            sys.exit(interrupt.CODE)
        if sweep.unfinished():
            sys.exit(1)

    def _directory(self, overrides: list[str]) -> Path:
        from lets_runner import config

        assert self.hydra_context is not None and self.config is not None
        seeds = [word.removeprefix("seed=") for word in overrides if word.startswith("seed=")]
        rest = tuple(word for word in overrides if not word.startswith("seed="))
        if rest not in self._composed:  # which takes a while, and seeds alone change nothing else
            loader = self.hydra_context.config_loader
            self._composed[rest] = config.split(loader.load_sweep_config(self.config, list(rest)))
        cfg, named = self._composed[rest]
        if seeds:
            cfg.seed = seeds[-1]
        return config.run_directory(cfg, named)


def combinations(
    params: Mapping[str, Any],
    grids: Sequence[Mapping[str, Any]],
    arguments: Sequence[str],
    loader: ConfigLoader | None = None,
) -> list[list[str]]:
    """The overrides of every run of a sweep, none twice; without a `loader`, `glob(...)` is no value to sweep over."""
    parser = OverridesParser.create(config_loader=loader)
    jobs: list[list[str]] = []
    for grid in grids or [{}]:
        words = [f"{key}={value}" for key, value in {**params, **grid}.items()]
        [batch] = BasicSweeper.split_arguments(parser.parse_overrides([*words, *arguments]), None)
        jobs += batch
    distinct = {tuple(sorted(job)): job for job in jobs}  # grids may name the same keys in another order
    return list(distinct.values())
