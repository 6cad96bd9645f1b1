"""Sweeps: what they run, what they leave alone, and what happens when a run or a launcher fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import grid, lets_train
from omegaconf import OmegaConf

from hydra_plugins.lets_sweeper import combinations
from lets_runner import cli, config
from lets_runner.report.runs import find
from lets_runner.report.selection import fold
from lets_runner.run.directory import Run
from lets_runner.sweep import Sweep, mark, search

QUICK = ("model=mlp", "epochs=1", "progress=false")


def summaries(folder):
    return {path.parent: json.loads(path.read_text()) for path in Path(folder).rglob("summary.json")}


class TestCombinations:
    def test_every_value_with_every_other(self):
        jobs = combinations({"a": "1,2"}, [], ["b=3,4", "c=5"])
        assert jobs == [["a=1", "b=3", "c=5"], ["a=1", "b=4", "c=5"], ["a=2", "b=3", "c=5"], ["a=2", "b=4", "c=5"]]

    def test_grids_stand_beside_each_other(self):
        jobs = combinations({"s": "0,1"}, [{"a": "1,2"}, {"a": 3, "b": 4}], [])
        first = [["s=0", "a=1"], ["s=0", "a=2"], ["s=1", "a=1"], ["s=1", "a=2"]]
        assert jobs == [*first, ["s=0", "a=3", "b=4"], ["s=1", "a=3", "b=4"]]

    def test_the_command_line_wins_and_nothing_runs_twice(self):
        assert combinations({"s": "0,1"}, [{"a": 1}, {"a": 2}], ["a=9", "s=5"]) == [["s=5", "a=9"]]


class TestSweep:
    def directories(self, tmp_path, finished=()):
        jobs = {tmp_path / "x" / "y" / f"seed={n}": [f"seed={n}"] for n in range(4)}
        for number in finished:
            self.write(tmp_path / "x" / "y" / f"seed={number}", "finished")
        return jobs

    @staticmethod
    def write(directory, status):
        mark(directory)
        (directory / "summary.json").write_text(json.dumps({"status": status}))

    def test_a_launcher_that_gives_up_is_asked_again_for_the_rest(self, tmp_path, capsys):
        jobs = self.directories(tmp_path, finished=[1])
        asked = []

        def launch(batch):
            asked.append([job[0] for job in batch])
            directory = next(place for place, job in jobs.items() if job == batch[0])
            self.write(directory, "running" if directory.name == "seed=0" else "finished")
            if len(batch) > 1:
                raise RuntimeError("a worker was killed")

        sweep = Sweep(jobs)
        sweep.run(launch)
        # 0 was broken off, and has its second try alone, after the rest
        assert asked == [["seed=0", "seed=2", "seed=3"], ["seed=2", "seed=3"], ["seed=3"], ["seed=0"]]
        assert "the launcher gave up (a worker was killed)" in capsys.readouterr().err
        assert [path.name for path in sweep.unfinished()] == ["seed=0"]
        assert sweep.result() == (
            f"4 runs: 2 finished, 0 failed, 1 skipped (finished before), 1 broken off; lets-report {tmp_path}"
        )

    def test_a_launcher_that_begins_nothing_is_an_error(self, tmp_path):
        sweep = Sweep(self.directories(tmp_path))

        def launch(batch):
            raise ConnectionError("no cluster")

        with pytest.raises(ConnectionError, match="no cluster"):
            sweep.run(launch)
        assert "4 not run" in sweep.result()


def test_again_runs_what_is_missing_or_failed(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    words = ["-m", *QUICK, "method=sam", "seed=0,1"]
    assert lets_train(monkeypatch, *words) == 0
    assert "2 runs: 2 finished, 0 failed, 0 skipped (finished before); lets-report runs" in capfd.readouterr().out
    before = {place: (place / "summary.json").stat().st_mtime_ns for place in summaries("runs")}
    for _ in range(2):  # a refused run is tried again
        assert lets_train(monkeypatch, *words, "sam.rho=-1,0.05") == 1
        out, err = capfd.readouterr()
        assert "4 runs: 0 finished, 2 failed, 2 skipped (finished before)" in out
        assert err.count("sam.rho=-1: the radius must be") == 2
    assert {place: (place / "summary.json").stat().st_mtime_ns for place in before} == before


def test_a_broken_off_run_goes_on(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    words = ["-m", *QUICK, "seed=0,1"]
    assert lets_train(monkeypatch, *words) == 0
    [broken, _] = sorted(summaries("runs"))
    (broken / "summary.json").write_text('{"status": "running"}')
    capfd.readouterr()
    assert lets_train(monkeypatch, *words) == 0
    assert "2 runs: 1 finished, 0 failed, 1 skipped (finished before)" in capfd.readouterr().out


@pytest.mark.full
def test_a_killed_worker_takes_only_its_own_run_with_it(tmp_path):
    (tmp_path / "fragile.py").write_text(
        "import os, signal, torch\n"
        "from lets_runner.models import MLP\n"
        "def model(*arguments, **settings):\n"
        "    if torch.initial_seed() == 1:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return MLP(*arguments, **settings)\n"
    )
    command = [sys.executable, "-m", "lets_runner", "-m", "hydra/launcher=parallel", "hydra.launcher.n_jobs=2", *QUICK]
    command += ["model._target_=fragile.model", "seed=0,1,2,3", f"output={tmp_path / 'runs'}"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr[-2000:]
    finished = {s["seed"] for s in summaries(tmp_path).values() if s["status"] == "finished"}
    assert finished == {0, 2, 3}
    assert "Traceback" not in done.stderr
    threads = {s["device"] for s in summaries(tmp_path).values() if s["status"] == "finished"}
    assert threads == {f"cpu, {max(1, (os.cpu_count() or 1) // 2)} threads"}


def test_a_search_for_the_radius(tmp_path):
    command = [sys.executable, "-m", "lets_runner", "-m", "hydra/sweeper=tune_rho", "hydra.sweeper.n_trials=3"]
    command += ["method=sam", *QUICK, f"output={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = summaries(tmp_path).values()
    assert len({s["rho_start"] for s in found}) == 3
    assert all(0.005 <= s["rho_start"] <= 1 for s in found)
    best = max(found, key=lambda s: s["val_accuracy"])
    [line] = [
        line for line in (tmp_path / "optimization_results.yaml").read_text().splitlines() if "best_value" in line
    ]
    assert float(line.split()[1]) == pytest.approx(best["val_accuracy"])
    assert [s["search"] for s in found] == [{"study": "rho", "over": ["sam.rho"]}] * 3
    folded = find([tmp_path])
    fold(folded)
    assert [run.summary["val_accuracy"] for run in folded.runs] == [best["val_accuracy"]]
    assert len(folded.of("searched")) == 2


def test_what_a_search_varies():
    sweeper = {"study_name": "rho", "params": {"sam.rho": "tag(log, interval(0.005, 1.0))", "epochs": 3}}
    words = ["-m", "--config-dir", "x=y", "optimizer.lr=interval(0.01,0.1)", "method=sam,asam", "seed=0"]
    assert search(OmegaConf.create(sweeper), words) == {
        "search": {"study": "rho", "over": ["method", "optimizer.lr", "sam.rho"]}
    }
    assert search(OmegaConf.create(sweeper), ["sam.rho=0.1"])["search"]["over"] == []
    assert search(OmegaConf.create({"params": {"sam.rho": "0.1,0.2"}}), ["seed=1,2"]) == {}


def stems(group):
    return sorted(path.stem for path in (cli.CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("name", grid(stems("sweep"), ["methods", "seeds"]))
def test_every_sweep_preset_is_a_sweep_of_its_own(tmp_path, monkeypatch, capfd, name):
    """Without -m; with every value of a list reduced to one there is nothing but runs that begin and end."""
    monkeypatch.chdir(tmp_path)
    launched = []
    monkeypatch.setattr("lets_runner.sweep.Sweep.run", lambda self, launch: launched.append(self.jobs))
    assert lets_train(monkeypatch, f"sweep={name}", *QUICK) == 1  # nothing was run
    [jobs] = launched
    assert len(jobs) >= 5
    assert f"{len(jobs)} runs: 0 finished" in capfd.readouterr().out


def test_unverified_values_are_marked():
    """The paper's text was not at hand: whoever sets a value of a recipe says where it is from."""
    for path in (cli.CONF / "experiment" / "recipe").glob("*.yaml"):
        head, _ = path.read_text().split("defaults:")
        if "https://" in head:  # where all of its values are from
            continue
        settings = path.read_text().split("defaults:")[1].split("\n\n", 1)[1].splitlines()
        for line in settings:
            assert line.rstrip().endswith(":") or "unverified" in line or "# ours" in line, f"{path.name}: {line}"


def test_a_run_that_somebody_else_trains_is_left_as_it_is(tmp_path, monkeypatch, capfd):
    overrides = (*QUICK, f"output={tmp_path}", "device=cpu")
    cfg, named = cli.compose(*overrides)
    with Run(config.run_directory(cfg, named), config.to_yaml(cfg)) as run:
        run.open()
        run.summarise(status="running", error=None)
        assert lets_train(monkeypatch, "-m", *overrides) == 1
        assert "another process is training in" in capfd.readouterr().err
        [summary] = summaries(tmp_path).values()
        assert summary["status"] == "running"
