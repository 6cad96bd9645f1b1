"""The presets of Hydra's launchers: jobs of a sweep through submitit and Ray, and what a job does at its time limit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import lets_train
from hydra.core.config_store import ConfigStore

SETTINGS = ("model=mlp", "epochs=60", "progress=false", "checkpoint.every_steps=20")
QUICK = ("model=mlp", "epochs=1", "progress=false")


def sweep(folder, launcher, *arguments):
    command = [sys.executable, "-m", "lets_runner", "-m", f"hydra/launcher={launcher}", f"output={folder}", *arguments]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(folder):
    """The directories of finished runs, by seed."""
    summaries = {path.parent: json.loads(path.read_text()) for path in Path(folder).rglob("summary.json")}
    return {summary["seed"]: place for place, summary in summaries.items() if summary["status"] == "finished"}


def test_the_presets_compose(monkeypatch, capfd):
    show = ("--cfg", "hydra", "--package", "hydra.launcher")
    assert lets_train(monkeypatch, *show, "hydra/launcher=slurm", "hydra.launcher.partition=gpu") == 0
    slurm = capfd.readouterr().out
    for line in ("partition: gpu", "max_num_timeout: 100", "submitit_folder: ${output}/.slurm/%j"):
        assert line in slurm
    assert lets_train(monkeypatch, *show, "hydra/launcher=ray_cluster") == 0
    assert "address: auto" in capfd.readouterr().out


def test_a_preset_without_its_extra_says_which(monkeypatch, capfd):
    launchers = dict(ConfigStore.instance().repo["hydra"]["launcher"])
    del launchers["submitit_slurm.yaml"]
    monkeypatch.setitem(ConfigStore.instance().repo["hydra"], "launcher", launchers)
    assert lets_train(monkeypatch, "-m", "hydra/launcher=slurm", "seed=0,1") == 2
    assert capfd.readouterr().err.strip() == (
        "lets-train: hydra/launcher: submitit_slurm needs an extra: pip install 'lets_runner[slurm]'"
    )


@pytest.mark.parametrize("launcher", ["submitit_local", pytest.param("ray", marks=pytest.mark.full)])
def test_a_sweep_through_another_launcher(tmp_path, launcher):
    process = sweep(tmp_path, launcher, *QUICK, "seed=0,1")
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out[-3000:]
    assert sorted(finished(tmp_path)) == [0, 1]


@pytest.mark.full
def test_a_job_at_its_time_limit_saves_is_queued_again_and_goes_on(tmp_path):
    """Submitit's own executor tells the job with the signal that it asks Slurm for."""
    process = sweep(tmp_path / "queued", "submitit_local", *SETTINGS, "seed=0")
    while not list(tmp_path.rglob("last.pt")):
        assert process.poll() is None
        time.sleep(0.05)
    [job] = [int(path.parent.name) for path in tmp_path.rglob("*_submitted.pkl")]
    tasks = subprocess.run(["ps", "-o", "pid=", "--ppid", str(job)], capture_output=True, text=True).stdout.split()
    os.kill(int(tasks[0]), signal.SIGUSR2)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out[-3000:]
    [log] = [path.read_text() for path in tmp_path.rglob("*_log.out")]
    assert "the same command goes on" in log
    assert "test accuracy" in log

    command = [sys.executable, "-m", "lets_runner", *SETTINGS, f"output={tmp_path / 'alone'}"]
    subprocess.run(command, check=True, timeout=240, capture_output=True)
    queued, alone = finished(tmp_path / "queued")[0], finished(tmp_path / "alone")[0]
    assert (queued / "steps.csv").read_bytes() == (alone / "steps.csv").read_bytes()
