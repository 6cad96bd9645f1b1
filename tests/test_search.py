"""Searches that other programs make, as docs/training.md has them: Optuna with a pruner, and sweeps of W&B."""

import re
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from lets_runner.record import Record
from lets_runner.run.files import read_summary
from lets_runner.trackers.wandb import WandB

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # SQLAlchemy's, of an older Optuna
    import optuna

DOCS = Path(__file__).parents[1] / "docs"
[SEARCH] = re.findall(r"```python\n(# search\.py.*?)```", (DOCS / "training.md").read_text(encoding="utf-8"), re.S)
SWEEP = DOCS / "sweeps" / "wandb.yaml"

pytestmark = pytest.mark.filterwarnings("ignore")  # Optuna's remarks on what it calls experimental


class Impatient(optuna.pruners.BasePruner):
    def prune(self, study, trial):
        return True


def search(tmp_path, monkeypatch, *words, trials, **patched):
    """The study that `search.py` makes of so many trials, and the summaries of its runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["search.py", "model=mlp", "method=sam", *words])
    monkeypatch.setattr(time, "sleep", lambda _, wait=time.sleep: wait(0.05))
    optimize = optuna.Study.optimize
    monkeypatch.setattr(optuna.Study, "optimize", lambda study, work, n_trials: optimize(study, work, n_trials=trials))
    for name, value in patched.items():
        monkeypatch.setattr(optuna.pruners, name, value)
    names = {}
    with suppress(ValueError):  # there is no best trial of none
        exec(compile(SEARCH, "search.py", "exec"), names)
    folders = [tmp_path / "runs" / "search" / str(number) for number in range(trials)]
    return names["study"], [read_summary(path.parent) for folder in folders for path in folder.rglob("summary.json")]


def test_a_study_of_its_own_takes_the_validation_score_of_the_last_epoch(tmp_path, monkeypatch):
    study, summaries = search(tmp_path, monkeypatch, "epochs=3", trials=2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2
    assert [trial.value for trial in study.trials] == pytest.approx([s["val_accuracy"] for s in summaries], rel=1e-6)
    assert [[*trial.intermediate_values] for trial in study.trials] == [[1, 2, 3]] * 2
    assert [s["rho"] for s in summaries] == pytest.approx([t.params["sam.rho"] for t in study.trials])


def test_a_pruned_trial_is_a_run_that_was_saved_before_its_end(tmp_path, monkeypatch):
    study, [summary] = search(tmp_path, monkeypatch, "epochs=100000", trials=1, MedianPruner=lambda **_: Impatient())
    assert [trial.state.name for trial in study.trials] == ["PRUNED"]
    assert (summary["status"], summary["epochs"] > 0) == ("interrupted", True)


def test_a_trial_that_fails_is_no_score(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="trial 0 failed"):
        search(tmp_path, monkeypatch, "epochs=0", trials=1)


def command(sweep, choose):
    """What W&B's agent starts for values that its server chose."""
    values = {key: {"value": choose(parameter)} for key, parameter in sweep["parameters"].items()}
    filled = create_sweep_command_args({"args": values})
    filled |= {"env": ["/usr/bin/env"], "program": [sweep["program"]]}
    words = [filled[word[2:-1]] if word.startswith("${") else [word] for word in sweep["command"]]
    return [word for group in words for word in group]


def test_what_an_agent_of_wandb_starts_is_a_run(tmp_path):
    sweep = yaml.safe_load(SWEEP.read_text())
    words = command(sweep, lambda parameter: parameter.get("max", parameter.get("values", [0])[-1]))
    assert words[:2] == ["/usr/bin/env", "lets-train"]
    told = subprocess.run(
        [sys.executable, "-m", "lets_runner", *words[2:], "--cfg", "job"], capture_output=True, text=True, cwd=tmp_path
    )
    assert told.returncode == 0, told.stderr
    cfg = yaml.safe_load(told.stdout)
    assert (cfg["sam"]["rho"], cfg["optimizer"]["weight_decay"]) == (1.0, 0.001)
    assert cfg["logger"]["wandb"]["mode"] == "online" and cfg["logger"]["wandb"]["project"] == sweep["project"]
    assert cfg["radius"]["_target_"].endswith("FixedRadius")  # or there would be no ρ to search for
    epoch = {"step": 5, "val_accuracy": 0.5}
    [(_, logged)] = WandB(project="p").points(Record([], epoch, 5, checkpoint=True))
    assert sweep["metric"]["name"] in logged
