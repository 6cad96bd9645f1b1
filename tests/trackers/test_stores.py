"""What TensorBoard, MLflow and W&B hold after a run is what its csv files say, resumed or not."""

import json
import math
import random

import numpy as np
import pytest
import stores
import torch
from conftest import train
from stores import SHORT, every_step, killed

from lets_runner.probe.command import find_runs
from lets_runner.report.curves import read_columns
from lets_runner.report.runs import find

# The trackers' libraries warn of their own affairs, some in threads of theirs.
pytestmark = pytest.mark.filterwarnings("ignore")

TRACKERS = ("tensorboard", "mlflow", "wandb")
PRECISION = {"tensorboard": 1e-6, "mlflow": 1e-8, "wandb": 1e-8}  # relative; float32, and the csv's nine digits


@pytest.fixture(scope="module", autouse=True)
def _installed():
    for name in TRACKERS:
        pytest.importorskip(name)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return train(tmp_path_factory.mktemp("plain"), *SHORT)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """One run with all trackers at once."""
    return train(tmp_path_factory.mktemp("together"), *SHORT, *every_step(*TRACKERS))


def metrics_of(tracker, directory):
    if tracker == "tensorboard":
        return stores.tensorboard(directory)
    if tracker == "mlflow":
        return stores.mlflow(directory.parents[2], "digits-mlp")[2]
    merged = {}
    for folder in sorted((directory / "wandb").glob("offline-run-*")):
        for name, values in stores.wandb(folder)[1].items():
            for step, several in values.items():
                merged.setdefault(name, {}).setdefault(step, []).extend(several)
    return merged


def expected(directory, kind):
    """{name: {step: value}} of a csv file, without the empty cells."""
    rows = read_columns(directory / f"{kind}s.csv")
    steps = [int(step) for step in rows.pop("step")]
    return {
        f"{kind}/{name}": known
        for name, values in rows.items()
        if (known := {step: value for step, value in zip(steps, values, strict=True) if not math.isnan(value)})
    }


@pytest.mark.parametrize("tracker", TRACKERS)
@pytest.mark.parametrize("kind", ["step", "epoch"])
def test_holds_what_the_csv_holds(together, tracker, kind):
    logged, written = metrics_of(tracker, together), expected(together, kind)
    assert {f"{kind}/loss", f"{kind}/rho", f"{kind}/hypergradient"} <= set(written) or kind == "epoch"
    assert {name for name in logged if name.startswith(f"{kind}/")} == set(written)
    for name, values in written.items():
        assert logged[name] == {
            step: [pytest.approx(value, rel=PRECISION[tracker])] for step, value in values.items()
        }, name


@pytest.mark.parametrize("tracker", TRACKERS)
def test_changes_neither_the_run_nor_random_numbers(tmp_path, plain, tracker):
    before = random.getstate(), np.random.get_state()[1].tolist()
    directory = train(tmp_path, *SHORT, *every_step(tracker))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert (directory / "trackers.json").exists()
    assert directory.relative_to(tmp_path) == plain.relative_to(plain.parents[2])
    assert (directory / "steps.csv").read_bytes() == (plain / "steps.csv").read_bytes()
    ours, theirs = (torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (directory, plain))
    assert torch.equal(ours["random"][0], theirs["random"][0])
    assert all(torch.equal(value, theirs["model"][name]) for name, value in ours["model"].items())


def test_tensorboard_shows_configuration_summary_and_curves(together):
    assert '"lr": 0.05' in stores.tensorboard_text(together, "config")
    summary = json.loads((together / "summary.json").read_text())
    assert f'"test_accuracy": {summary["test_accuracy"]}' in stores.tensorboard_text(together, "summary")
    assert stores.tensorboard(together)["summary/test_accuracy"] == {
        summary["step"]: [pytest.approx(summary["test_accuracy"])]
    }
    assert stores.tensorboard_image(together, "curves") == (1100, 660)


def test_mlflow_has_names_parameters_and_artefacts(together):
    client, run, metrics = stores.mlflow(together.parents[2], "digits-mlp")
    assert run.info.run_name == "horizon_sam/seed=0"
    assert run.info.status == "FINISHED"
    assert {"data.val_fraction": "0.2", "model.width": "8", "seed": "0"}.items() <= run.data.params.items()
    assert not any(key.startswith("logger") for key in run.data.params)
    assert run.data.tags["directory"] == str(together)
    assert metrics["summary/test_accuracy"].keys() == {14}
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert names == {"config.yaml", "epochs.csv", "steps.csv", "summary.json", "curves.png"}
    steps = together.parents[2] / ".mlflow" / "digits-mlp" / run.info.run_id / "artifacts" / "steps.csv"
    assert steps.read_bytes() == (together / "steps.csv").read_bytes()


def test_checkpoints_are_artefacts_if_asked_for(tmp_path):
    directory = train(tmp_path, *SHORT, "logger=mlflow", "logger.mlflow.artefacts=checkpoints")
    client, run, metrics = stores.mlflow(tmp_path, "digits-mlp")
    assert {"last.pt", "best.pt"} <= {file.path for file in client.list_artifacts(run.info.run_id)}
    assert set(metrics["step/loss"]) == {10}  # every_steps
    assert directory.exists()


def test_copies_in_a_store_are_not_taken_for_runs(together):
    output = together.parents[2]
    assert any(output.glob(".mlflow/*/*/artifacts/config.yaml"))
    found = find([output])
    assert [run.directory for run in found.runs] == [together]
    assert found.others == []
    assert list(find_runs(output)) == [together]


def test_wandb_has_names_configuration_and_files(together):
    [folder] = (together / "wandb").glob("offline-run-*")
    run, _ = stores.wandb(folder)
    assert (run.project, run.run_group, run.display_name) == ("lets_runner", "digits-mlp", "horizon_sam/seed=0")
    config = {item.key: item.value_json for item in run.config.update}
    assert json.loads(config["model"])["width"] == 8
    assert "logger" not in config
    for name in ("config.yaml", "epochs.csv", "steps.csv", "summary.json", "curves.png"):
        assert (folder / "files" / name).read_bytes() == (together / name).read_bytes()
    assert not list((folder / "files").glob("*.pt"))


@pytest.mark.full
def test_a_killed_run_goes_on_with_the_same_tracker_runs(tmp_path, plain):
    """Killed at step 9, past the checkpoint of step 7: the row of step 8 had been logged, and is logged again."""
    overrides = (*SHORT, *every_step(*TRACKERS))
    killed(tmp_path, *overrides, step=9)
    [ids] = [path.read_text() for path in tmp_path.rglob("trackers.json")]
    directory = train(tmp_path, *overrides)
    assert (directory / "trackers.json").read_text() == ids
    assert (directory / "steps.csv").read_bytes() == (plain / "steps.csv").read_bytes()

    losses = expected(directory, "step")["step/loss"]
    once = {step: [pytest.approx(value, rel=1e-6)] for step, value in losses.items()}
    twice = {**once, 8: once[8] * 2}
    assert metrics_of("tensorboard", directory)["step/loss"] == once  # the first is void
    assert metrics_of("mlflow", directory)["step/loss"] == twice
    _, folder = sorted((directory / "wandb").glob("offline-run-*"))  # of the first W&B loses what it had not flushed
    run, history = stores.wandb(folder)
    assert run.run_id == json.loads(ids)["wandb"]
    assert history["step/loss"] == {step: value for step, value in once.items() if step > 7}
    assert stores.mlflow(tmp_path, "digits-mlp")[1].info.status == "FINISHED"
