"""Runs in several processes: the same trajectory as one, and checkpoints that any number of them can read."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import grid, train, write_imagenet

from lets_runner import slurm
from lets_runner.report.curves import read_columns

SETTINGS = ("model=mlp", "epochs=4", "progress=false", "data.label_noise=0.2", "batch_size=48")


def launch(folder, *arguments, processes=2, **settings):
    """`torchrun -m lets_runner` in a folder of its own; in float64, for there a sum has no order."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [str(Path(__file__).with_name("float64.py")), f"output={folder}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
    )


def finish(process, rc=0):
    out, err = process.communicate(timeout=200)
    assert process.returncode == rc, err[-3000:]
    return out, err


def one_process(folder, *arguments):
    command = [sys.executable, str(Path(__file__).with_name("float64.py")), f"output={folder}", *arguments]
    subprocess.run(command, check=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    return directory_of(folder)


def directory_of(folder):
    [summary] = Path(folder).rglob("summary.json")
    return summary.parent


def assert_same_run(first, second):
    """Trajectories, metrics and weights to rounding; what was counted exactly."""
    for name in ("steps.csv", "epochs.csv"):
        ours, theirs = read_columns(first / name), read_columns(second / name)
        assert list(ours) == list(theirs)
        for column in ours:
            if column != "seconds":
                assert ours[column] == pytest.approx(theirs[column], rel=1e-6, nan_ok=True), column
    states = [torch.load(folder / "checkpoints" / "last.pt", weights_only=True) for folder in (first, second)]
    for ours, theirs in zip(*(state["model"].values() for state in states), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (first, second)]
    for key in ("test_accuracy", "val_accuracy", "gradient_evaluations", "status", "step"):
        assert summaries[0][key] == summaries[1][key]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return one_process(tmp_path_factory.mktemp("alone"), *SETTINGS)


@pytest.mark.parametrize("strategy", grid(["ddp", "fsdp"], ["ddp"]))
def test_two_processes_train_as_one(tmp_path, alone, strategy):
    out, _ = finish(launch(tmp_path, *SETTINGS, f"distributed.strategy={strategy}"))
    assert out.count("test accuracy") == 1
    both = directory_of(tmp_path)
    assert json.loads((both / "summary.json").read_text())["processes"] == 2
    assert_same_run(both, alone)
    assert "already finished" in finish(launch(tmp_path, *SETTINGS))[0]


def test_what_belongs_to_training_is_the_same_in_two_processes(tmp_path):
    words = [
        "data.mixup=0.4",
        "data.cutmix=1.0",
        "data.policy=randaugment",
        "ema.decay=0.9",
        "early_stopping.patience=1",
    ]
    words += ["optimizer.layer_decay=0.7", "schedule.warmup_steps=5", "model.freeze=[1.bias]", "optimizer.lr=0.3"]
    words += [*SETTINGS, "epochs=12"]
    alone = one_process(tmp_path / "alone", *words)
    finish(launch(tmp_path / "both", *words))
    both = directory_of(tmp_path / "both")
    assert_same_run(both, alone)
    summaries = [json.loads((place / "summary.json").read_text()) for place in (both, alone)]
    assert summaries[0]["epochs"] == summaries[1]["epochs"] < 12
    states = [torch.load(place / "checkpoints" / "last.pt", weights_only=True)["ema"] for place in (both, alone)]
    for ours, theirs in zip(*(state["model"].values() for state in states), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.full
def test_averages_of_sharded_weights_are_refused(tmp_path):
    _, err = finish(launch(tmp_path, "model=mlp", "ema.decay=0.9", "distributed.strategy=fsdp"), rc=1)
    assert err.count("lets-train: ") == 1
    assert "ema.decay=0.9: averages need whole weights; take distributed.strategy=ddp" in err


@pytest.mark.full
def test_blocks_within_blocks_are_sharded(tmp_path):
    settings = ("model=vit_s", "model.width=12", "model.heads=3", "model.depth=2", "epochs=1", "progress=false")
    alone = one_process(tmp_path / "alone", *settings)
    finish(launch(tmp_path / "both", *settings, "distributed.strategy=fsdp"))
    assert_same_run(directory_of(tmp_path / "both"), alone)


@pytest.mark.full
def test_a_refused_run_of_a_sweep_stops_no_other(tmp_path):
    words = ("hydra.mode=MULTIRUN", "model=mlp", "epochs=1", "progress=false", "data=imagenet,digits", "seed=0,1")
    out, err = finish(launch(tmp_path, *words), rc=1)
    assert "4 runs: 2 finished, 2 failed" in out
    assert err.count("lets-train: ") == 2
    for path in tmp_path.rglob("summary.json"):
        assert json.loads(path.read_text())["status"] == ("finished" if "digits" in str(path) else "failed")


@pytest.mark.parametrize(("strategy", "then"), grid([("ddp", 1), ("fsdp", 3)], [("ddp", 1)]))
def test_a_signal_stops_all_and_any_number_goes_on(tmp_path, alone, strategy, then):
    process = launch(tmp_path, *SETTINGS, f"distributed.strategy={strategy}", "checkpoint.every_steps=4")
    checkpoint = None
    for _ in range(2400):
        if checkpoint := next(tmp_path.rglob("last.pt"), None):
            break
        time.sleep(0.05)
    assert checkpoint
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)
    summary = json.loads((directory_of(tmp_path) / "summary.json").read_text())
    state = torch.load(directory_of(tmp_path) / "checkpoints" / "last.pt", weights_only=True)
    assert summary["status"] == "interrupted"
    assert state["step"] == summary["step"]
    if then == 1:
        one_process(tmp_path, *SETTINGS, "checkpoint.every_steps=4")
    else:
        finish(launch(tmp_path, *SETTINGS, "checkpoint.every_steps=4", processes=then))
    assert_same_run(directory_of(tmp_path), alone)


def test_bad_input_is_said_once(tmp_path):
    _, err = finish(launch(tmp_path, "batch_size=33"), rc=1)
    assert err.count("lets-train: ") == 1
    assert "batch_size=33: must be a multiple of 2 (2 processes x 1 microbatches)" in err
    assert list(tmp_path.iterdir()) == []


def test_a_broken_image_is_named_by_the_process_that_met_it(tmp_path):
    root = write_imagenet(tmp_path / "imagenet", classes=2, train=8, val=4)
    for path in sorted(root.glob("train/*/*"))[:3]:
        path.write_text("no image")
    settings = ("data=imagenet", f"data.root={root}", "data.classes=2", "data.size=16", "data.workers=0", "model=mlp")
    settings += ("batch_size=4", "val_batch_size=2", "data.val_fraction=0.25", "progress=false")
    _, err = finish(launch(tmp_path / "runs", *settings), rc=1)
    assert "cannot be read as an image" in err
    assert "lets-train: " in err
    assert "BrokenImage" not in err


def test_microbatches_change_nothing_but_memory(tmp_path, alone):
    assert_same_run(one_process(tmp_path, *SETTINGS, "accumulate=4"), alone)


def test_float16_trains(tmp_path):
    directory = train(tmp_path, "precision=fp16", "epochs=3")
    state = torch.load(directory / "checkpoints" / "last.pt", weights_only=True)
    assert state["optimizer"]["inner"]["_scale"]["scale"] >= 2**10
    losses = read_columns(directory / "epochs.csv")["train_loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert json.loads((directory / "summary.json").read_text())["rho"] != 0.05


def test_the_descent_gradient_alone_is_clipped(tmp_path):
    directory = train(tmp_path, "grad_clip=1e-6", "epochs=6", "optimizer.weight_decay=0", "optimizer.momentum=0")
    loose = train(tmp_path, "grad_clip=1e6", "epochs=6", "optimizer.weight_decay=0", "optimizer.momentum=0")
    clipped, free = (read_columns(folder / "steps.csv") for folder in (directory, loose))
    assert clipped["gradient_norm"][0] == free["gradient_norm"][0] > 0.1
    assert abs(clipped["loss"][0] - clipped["loss"][-1]) < 0.3 * (free["loss"][0] - free["loss"][-1])


TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class TestSlurm:
    @pytest.fixture
    def job(self, monkeypatch, tmp_path):
        """A job of Slurm, and a `scontrol` that notes what it is asked."""
        script = tmp_path / "bin" / "scontrol"
        script.parent.mkdir()
        script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_ID", "42")
        monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 10_000))
        return lambda: (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""

    @pytest.fixture
    def step(self, monkeypatch):
        """Sets what `srun` tells a task; what the task makes of it is undone."""
        for name in TORCHRUN:
            monkeypatch.setenv(name, "")  # so that it is put back
            monkeypatch.delenv(name)

        def tell(**told):
            for name, value in {"SLURM_JOB_ID": "42", **told}.items():
                monkeypatch.setenv(name, value)

        return tell

    def test_when_time_is_up(self, job, monkeypatch):
        assert slurm.time_is_up(signal.SIGUSR1)
        assert not slurm.time_is_up(signal.SIGTERM)
        assert not slurm.time_is_up(signal.SIGINT)
        monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 20))
        assert slurm.time_is_up(signal.SIGTERM)
        monkeypatch.delenv("SLURM_JOB_ID")
        assert not slurm.time_is_up(signal.SIGUSR1)

    def test_array_jobs_are_queued_by_their_task(self, job, monkeypatch):
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "40")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
        slurm.requeue()
        assert job() == "requeue 40_7\n"

    def test_only_the_first_process_asks(self, job, monkeypatch):
        monkeypatch.setenv("RANK", "1")
        slurm.requeue()
        assert job() == ""

    def test_tasks_of_one_machine_find_each_other(self, step):
        own = {"SLURM_STEP_ID": "7", "SLURM_PROCID": "3", "SLURM_LOCALID": "3"}
        step(SLURM_STEP_NUM_TASKS="4", SLURM_STEP_NUM_NODES="1", **own)
        slurm.as_torchrun()
        told = {name: os.environ[name] for name in TORCHRUN}
        assert told == {
            "RANK": "3",
            "LOCAL_RANK": "3",
            "WORLD_SIZE": "4",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(20042 + 1009 * 7),  # the step's, for an allocation may run several at a time
        }

    def test_tasks_of_several_machines_meet_on_the_first(self, step, job, tmp_path):
        (tmp_path / "bin" / "scontrol").write_text(
            '#!/bin/sh\n[ "$*" = "show hostnames n[07-08]" ] && echo n07 && echo n08\n'
        )
        step(
            SLURM_STEP_NUM_TASKS="2",
            SLURM_STEP_NUM_NODES="2",
            SLURM_PROCID="1",
            SLURM_LOCALID="0",
            SLURM_STEP_NODELIST="n[07-08]",
        )
        slurm.as_torchrun()
        assert os.environ["MASTER_ADDR"] == "n07"

    @pytest.mark.parametrize("what", [{"SLURM_STEP_NUM_TASKS": "1"}, {"RANK": "0", "SLURM_STEP_NUM_TASKS": "2"}])
    def test_a_single_task_and_torchrun_are_left_alone(self, step, what):
        step(**what)
        slurm.as_torchrun()
        assert "MASTER_PORT" not in os.environ

    def test_two_tasks_train_as_one(self, tmp_path, alone):
        shared = {"SLURM_JOB_ID": "4711", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1"}
        command = [sys.executable, str(Path(__file__).with_name("float64.py")), f"output={tmp_path}", *SETTINGS]
        tasks = []
        for number in ("0", "1"):
            own = {"SLURM_PROCID": number, "SLURM_LOCALID": number, "OMP_NUM_THREADS": "1"}
            environment = {**os.environ, **shared, **own, "PYTHONWARNINGS": "ignore"}
            tasks.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        for task in tasks:
            _, err = task.communicate(timeout=200)
            assert task.returncode == 0, err[-3000:]
        assert json.loads((directory_of(tmp_path) / "summary.json").read_text())["processes"] == 2
        assert_same_run(directory_of(tmp_path), alone)

    def test_a_run_saves_asks_and_goes_on(self, job, tmp_path):
        settings = ("epochs=200", "progress=false", f"output={tmp_path}/runs", "checkpoint.every_steps=20")
        command = [sys.executable, "-m", "lets_runner", *settings]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        while not list(tmp_path.rglob("last.pt")):
            time.sleep(0.05)
        process.send_signal(signal.SIGUSR1)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGUSR1
        assert "the same command goes on" in out
        assert job() == "requeue 42\n"
        directory = directory_of(tmp_path / "runs")
        summary = json.loads((directory / "summary.json").read_text())
        assert summary["status"] == "interrupted"
        assert torch.load(directory / "checkpoints" / "last.pt", weights_only=True)["step"] == summary["step"] > 0
