"""Ctrl-C: at any moment a line and exit code 130, never a traceback; in a parallel sweep every run is saved."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import grid

LETS_TRAIN = [sys.executable, "-m", "lets_runner"]
QUICK = ["model=mlp", "model.width=8", "epochs=1", "progress=false"]


def started(*words, **settings):
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    environment.pop("OMP_NUM_THREADS", None)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*LETS_TRAIN, *words], env=environment, start_new_session=True, **pipes, **settings)


def ctrl_c(process):
    """What a terminal does: a signal to every process of the command."""
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.parametrize("seconds", grid([0.6, 1.0, 1.5, 2.0, 2.6, 3.4], few=[1.0, 2.6]))
def test_at_start_up(tmp_path, seconds):
    """Python itself must be up, which takes less than the first of these; building takes longer than the last."""
    (tmp_path / "slow.py").write_text(
        "import time\nfrom lets_runner.models import MLP\n"
        "def model(*arguments, **settings):\n    time.sleep(60)\n    return MLP(*arguments, **settings)\n"
    )
    process = started("model._target_=slow.model", *QUICK, cwd=tmp_path)
    time.sleep(seconds)
    ctrl_c(process)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert err == "lets-train: interrupted\n"
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["slow.py"]


def test_while_a_library_is_imported_that_swallows_it(tmp_path):
    """Some turn whatever happens on their import into an ImportError."""
    (tmp_path / "greedy.py").write_text(
        "import time\nfrom pathlib import Path\nPath('there').touch()\n"
        "try:\n    time.sleep(60)\nexcept BaseException as error:\n    raise ImportError('half a library') from error\n"
    )
    process = started("model._target_=greedy.model", *QUICK, cwd=tmp_path)
    wait_for(process, lambda: (tmp_path / "there").exists())
    ctrl_c(process)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "lets-train: interrupted\n")


def wait_for(process, happened):
    deadline = time.monotonic() + 120
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def summaries(folder):
    found = {}
    for path in folder.rglob("summary.json"):
        try:
            found[path.parent] = json.loads(path.read_text())
        except ValueError:  # just being replaced
            continue
    return found


def test_a_sweep_of_one_run_after_the_other(tmp_path):
    process = started("-m", "seed=0,1,2", *QUICK, "epochs=2000", f"output={tmp_path}")
    wait_for(process, lambda: list(tmp_path.rglob("last.pt")))
    ctrl_c(process)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "3 runs: 0 finished, 0 failed, 0 skipped (finished before), 1 interrupted, 2 not run; lets-report" in out
    [summary] = summaries(tmp_path).values()
    assert summary["status"] == "interrupted"


def test_a_parallel_sweep(tmp_path):
    words = ["-m", "hydra/launcher=parallel", "hydra.launcher.n_jobs=2", "seed=0,1,2,3", *QUICK, f"output={tmp_path}"]
    process = started(*words, "epochs=2000")
    wait_for(process, lambda: len(list(tmp_path.rglob("last.pt"))) == 2)
    ctrl_c(process)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err == ""
    assert "4 runs: 0 finished, 0 failed, 0 skipped (finished before), 2 interrupted, 2 not run; lets-report" in out
    found = summaries(tmp_path)
    assert [summary["status"] for summary in found.values()] == ["interrupted"] * 2
    for directory, summary in found.items():
        assert torch.load(directory / "checkpoints" / "last.pt", weights_only=True)["step"] == summary["step"] > 0


@pytest.mark.full
@pytest.mark.parametrize("seconds", grid([2.0, 4.0, 5.0, 6.0], few=[4.0]))
def test_a_parallel_sweep_that_is_about_to_begin(tmp_path, seconds):
    words = ["-m", "hydra/launcher=parallel", "hydra.launcher.n_jobs=2", "seed=0,1,2,3", *QUICK, f"output={tmp_path}"]
    process = started(*words, "epochs=2000")
    time.sleep(seconds)
    ctrl_c(process)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    for summary in summaries(tmp_path).values():
        assert summary["status"] == "interrupted"
