"""Which of the runs that were found a report is of: those that are asked for, and of a search the best."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lets_runner.keys import meant
from lets_runner.report.grid import ABSENT, grouped, value_text
from lets_runner.report.runs import WORDS, Found, Other, Run

MOST = 8  # values that a complaint lists


@dataclass(frozen=True)
class Condition:
    """`epochs=40`, or any of several: `method=sam,asam`. Keys and values as on the command line of lets-train."""

    key: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Raises ValueError."""
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise ValueError(f"--where {text}: must be a setting and its value, as in epochs=40")
        return cls(key, value)

    def holds(self, run: Run) -> bool:
        found = _setting(run, self.key)
        return any(_same(found, value) for value in (self.value, *self.value.split(",")))


def only(found: Found, conditions: Iterable[Condition]) -> None:
    """Put the runs aside for which a condition does not hold.

    Raises:
        ValueError: no run has such a setting, or none has such a value.
    """
    for condition in conditions:
        before = found.runs
        found.runs = [run for run in before if condition.holds(run)]
        if before and not found.runs:
            raise ValueError(_complaint(condition, before))
        _put_aside(
            found,
            [run for run in before if not condition.holds(run)],
            "excluded",
            lambda run, key=condition.key: f"{key} = {value_text(_setting(run, key))}",
        )


def fold(found: Found) -> None:
    """Of the runs that one search tried, keep the configuration that validates best; the others are put aside.

    A configuration that was also run outside of the search stays in any case.
    """
    for trials in grouped([run for run in found.runs if _search(run)], _space):
        configurations = grouped(trials, lambda run: run.configuration)
        goodness = [_validation(runs) for runs in configurations]
        if len(configurations) == 1 or np.isnan(goodness).all():
            continue
        best = configurations[int(np.nanargmax(goodness))]
        also = {run.configuration for run in found.runs if not _search(run)}
        lost = [run for run in trials if run.configuration not in {best[0].configuration, *also}]
        study, directory = _search(best[0])["study"], best[0].directory
        _put_aside(found, lost, "searched", lambda run, why=f"the search {study} found a better one: {directory}": why)
        found.runs = [
            replace(run, searched=True) if run.configuration == best[0].configuration else run
            for run in found.runs
            if run not in lost
        ]


def _put_aside(found: Found, runs: Sequence[Run], state: str, reason: Any) -> None:
    found.others += [Other(run.directory, state, reason(run)) for run in runs]


def _setting(run: Run, key: str) -> Any:
    return run.summary[key] if key in (*WORDS, "seed") else run.settings.get(key, ABSENT)


def _same(found: Any, value: str) -> bool:
    """Whether they read alike, or are the same number: 0.10 is 1e-1."""
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return float(value) == found
        except ValueError:
            return False
    return value_text(found) == value


def _complaint(condition: Condition, runs: Sequence[Run]) -> str:
    text = f"--where {condition.key}={condition.value}"
    values = dict.fromkeys(value_text(_setting(run, condition.key)) for run in runs)
    if list(values) == [ABSENT]:
        keys = dict.fromkeys([*WORDS, "seed", *(key for run in runs for key in run.settings)])
        likely = " or ".join(meant(condition.key, keys))
        return f"{text}: no run has such a setting" + (f"; did you mean {likely}?" if likely else "")
    listed = [*list(values)[:MOST], *(["…"] if len(values) > MOST else [])]
    return f"{text}: no run has that; there is {', '.join(listed)}"


def _search(run: Run) -> dict[str, Any]:
    """Of a trial of a search: {"study": its name, "over": the settings that it varies}; else empty."""
    search = run.summary.get("search")
    if isinstance(search, dict) and isinstance(search.get("study"), str) and isinstance(search.get("over"), list):
        return search
    return {}


def _space(run: Run) -> tuple:
    """The same for the trials that one search compares: all but what it varies."""
    over = list(map(str, _search(run)["over"]))
    rest = frozenset((key, repr(value)) for key, value in run.settings.items() if key not in over)
    return _search(run)["study"], tuple(run.summary[word] for word in WORDS), rest


def _validation(runs: Sequence[Run]) -> float:
    """The mean over seeds of what selects, more being better; nan where it is not known."""
    score = runs[0].columns.selected
    return score.sign * float(np.mean([run.number(f"val_{score.name}") for run in runs]))
