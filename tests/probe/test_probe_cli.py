"""`lets-probe`: from run directories to records, what stays and what is measured anew, and what is refused."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from conftest import train
from torch import nn

from lets_runner.data import Digits
from lets_runner.models import ConvNet
from lets_runner.probe import command as probe_cli
from lets_runner.run.checkpoint import pack

QUICK = ("--examples", "60", "--eigenvalues", "2", "--trace-samples", "4", "--m", "30", "--rho", "0.05", "0.5")
QUICK = (*QUICK, "--adaptive-rho", "0.5", "--grid", "5", "3", "--device", "cpu")
PICTURES = [
    f"{name}.{kind}"
    for name in ("landscape_1d", "landscape_2d_contour", "landscape_2d_surface")
    for kind in ("png", "pdf")
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with batch norm, smoothed and noisy labels."""
    settings = ("method=sam", "epochs=1", "model.batch_norm=true", "task.label_smoothing=0.1", "data.label_noise=0.3")
    return train(tmp_path_factory.mktemp("runs"), *settings)


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "runs" / "seed=0")


@pytest.fixture
def lets_probe(monkeypatch, capfd):
    """The console script in this process: exit code, standard output and error."""

    def call(*arguments):
        monkeypatch.setattr("warnings.showwarning", None)
        monkeypatch.setattr("torch.backends.cudnn.allow_tf32", True)
        monkeypatch.setattr(sys, "argv", ["lets-probe", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            probe_cli.main()
        return stop.value.code, *capfd.readouterr()

    return call


def record(run):
    return json.loads((run / "probe" / "probe.json").read_text())


def trained(run, name="last"):
    """The network of the run as its parts say, without the runner."""
    model = ConvNet((1, 8, 8), 10, batch_norm=True)
    model.load_state_dict(torch.load(run / "checkpoints" / f"{name}.pt", weights_only=True)["model"])
    return model.eval()


def scores_and_labels(run, part="train", **settings):
    examples = getattr(Digits(label_noise=0.3, **settings).splits(), part)
    pixels = (examples.images.float() / 255 - Digits.mean[0]) / Digits.std[0]
    return trained(run)(pixels).detach(), examples.labels


def test_a_run_is_measured_whole(run, lets_probe):
    code, out, err = lets_probe(run, *QUICK)
    assert (code, err) == (0, "")
    assert "60 train examples, batch norm in evaluation mode" in out
    facts = record(run)
    stated = {"examples": 60, "split": "train", "batch_norm": "eval", "seed": 0, "checkpoint": "last", "step": 17}
    assert {key: facts[key] for key in stated} == stated
    assert {"torch", "curvlinops", "scipy"} <= set(facts["versions"])
    top = facts["hessian_eigenvalues"]
    assert len(top) == 2
    assert top[0] > top[1] > 0
    assert facts["hessian_trace"] > 0 < facts["hessian_trace_error"]
    assert set(facts["m_sharpness"]) == {"0.05", "0.5"}
    assert facts["m_sharpness"]["0.5"] > facts["m_sharpness"]["0.05"] > 0
    assert facts["adaptive_sharpness"]["0.5"] > 0
    curve, surface = (np.load(run / "probe" / f"landscape_{n}d.npz", allow_pickle=False) for n in (1, 2))
    assert {name: curve[name].shape for name in curve} == {"alpha": (5,), "loss": (5,), "accuracy": (5,)}
    assert surface["loss"].shape == surface["accuracy"].shape == (3, 3)
    assert curve["loss"][2] == surface["loss"][1, 1] == facts["loss"]
    assert curve["accuracy"][2] == surface["accuracy"][1, 1] == facts["accuracy"]
    assert all((run / "probe" / name).stat().st_size > 0 for name in PICTURES)


def test_loss_is_the_training_loss_on_the_runs_own_labels(run, lets_probe):
    lets_probe(run, *QUICK, "--examples", "5000", "--only", "sharpness")
    scores, labels = scores_and_labels(run)
    facts = record(run)
    assert facts["examples"] == len(labels) == 1132
    assert facts["loss"] == pytest.approx(nn.functional.cross_entropy(scores, labels, label_smoothing=0.1).item())
    assert facts["accuracy"] == pytest.approx((scores.argmax(1) == labels).float().mean().item())


@pytest.mark.parametrize("split", ["val", "test"])
def test_other_splits(run, lets_probe, split):
    lets_probe(run, *QUICK, "--examples", "5000", "--only", "sharpness", "--split", split)
    scores, labels = scores_and_labels(run, split)
    assert record(run)["split"] == split
    assert record(run)["examples"] == len(labels)
    assert record(run)["accuracy"] == pytest.approx((scores.argmax(1) == labels).float().mean().item())


def test_a_second_call_fills_in_what_is_missing_and_keeps_the_rest(run, lets_probe):
    lets_probe(run, *QUICK, "--only", "sharpness")
    facts = record(run)
    assert "hessian_trace" not in facts
    facts["m_sharpness"] = {"0.05": 7.0}  # to be known again
    (run / "probe" / "probe.json").write_text(json.dumps(facts))
    _, out, _ = lets_probe(run, *QUICK, "--only", "hessian", "sharpness")
    assert "sharpness: measured before" in out
    assert record(run)["m_sharpness"] == {"0.05": 7.0}
    assert "hessian_trace" in record(run)
    lets_probe(run, *QUICK, "--only", "sharpness", "--rho", "0.1")
    assert set(record(run)["m_sharpness"]) == {"0.1"}
    assert "hessian_trace" in record(run)


@pytest.mark.parametrize("change", ["seed", "weights"])
def test_what_was_measured_of_something_else_gives_way(run, lets_probe, change):
    lets_probe(run, *QUICK, "--only", "landscape", "hessian")
    if change == "weights":
        path = run / "checkpoints" / "last.pt"
        state = torch.load(path, weights_only=True)
        state["model"]["0.weight"][0] += 1e-6
        path.write_bytes(pack(state))
    _, out, _ = lets_probe(run, *QUICK, "--only", "sharpness", "--seed", int(change == "seed"))
    assert "gives way" in out
    assert "hessian_trace" not in record(run)
    assert [file.name for file in (run / "probe").iterdir()] == ["probe.json"]


def test_a_landscape_whose_arrays_are_gone_is_made_again(run, lets_probe):
    lets_probe(run, *QUICK, "--only", "landscape")
    (run / "probe" / "landscape_2d.npz").unlink()
    _, out, _ = lets_probe(run, *QUICK, "--only", "landscape")
    assert "measured before" not in out
    assert (run / "probe" / "landscape_2d.npz").exists()


def test_nothing_else_in_the_run_is_touched(run, lets_probe):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    lets_probe(run, *QUICK)
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.parent.name != "probe"}
    assert after == before


def test_best_checkpoint(run, lets_probe):
    state = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    (run / "checkpoints" / "best.pt").write_bytes(pack({**state, "step": 11}))
    lets_probe(run, *QUICK, "--only", "sharpness", "--checkpoint", "best")
    assert (record(run)["checkpoint"], record(run)["step"]) == ("best", 11)


def test_double_precision_is_of_the_same_weights_and_finer(run, lets_probe):
    lets_probe(run, *QUICK, "--only", "hessian")
    single = record(run)
    lets_probe(run, *QUICK, "--only", "hessian", "--double")
    double = record(run)
    assert double["weights"] == single["weights"]
    assert double["hessian_eigenvalues"] != single["hessian_eigenvalues"]
    assert double["hessian_eigenvalues"] == pytest.approx(single["hessian_eigenvalues"], rel=1e-4)


def test_a_run_that_cannot_be_probed_is_one_line_and_the_others_go_on(run, lets_probe):
    runs = run.parent
    (runs / "a-refused").mkdir()
    (runs / "a-refused" / "summary.json").write_text('{"status": "failed"}')
    for name, config in {
        "b-foreign": "model: resnet\n",
        "c-broken": "data: [\n",
        "d-evil": "data: !!python/none x\n",
    }.items():
        (runs / name).mkdir()
        (runs / name / "config.yaml").write_text(config)
    for name in ("e-unsaved", "f-damaged", "g-other", "h-diverged", "z-good"):
        shutil.copytree(run, runs / name)
    (runs / "z-good" / "tracker").mkdir()
    (runs / "z-good" / "tracker" / "config.yaml").write_text("some: thing of somebody else's")
    shutil.rmtree(run)
    shutil.rmtree(runs / "e-unsaved" / "checkpoints")
    (runs / "f-damaged" / "checkpoints" / "last.pt").write_bytes(b"not a checkpoint")
    config = runs / "g-other" / "config.yaml"
    config.write_text(config.read_text().replace("width: 16", "width: 8"))
    path = runs / "h-diverged" / "checkpoints" / "last.pt"
    state = torch.load(path, weights_only=True)
    state["model"]["0.weight"].fill_(torch.nan)
    path.write_bytes(pack(state))
    code, out, err = lets_probe(runs, *QUICK, "--only", "sharpness")
    assert code == 2
    assert out.count("examples, batch norm") == 1
    assert record(runs / "z-good")["m_sharpness"]
    expected = {
        "a-refused": "has no config.yaml: this run was refused before it began",
        "b-foreign": "config.yaml is none that lets-train has written",
        "c-broken": "config.yaml cannot be read",
        "d-evil": "config.yaml cannot be read",
        "e-unsaved": "there is no checkpoints/last.pt: nothing of this run was saved",
        "f-damaged": "last.pt cannot be read",
        "g-other": "checkpoints/last.pt does not fit the model that config.yaml names",
        "h-diverged": "the loss at step 17 is not finite",
    }
    lines = err.splitlines()
    assert len(lines) == len(expected)
    for line, (name, message) in zip(lines, expected.items(), strict=True):
        assert line.startswith(f"lets-probe: {runs / name}: ")
        assert message in line


def test_an_empty_split_is_refused(tmp_path, lets_probe):
    run = train(tmp_path, "method=sam", "epochs=1", "data.val_fraction=0")
    code, _, err = lets_probe(run, *QUICK, "--split", "val")
    assert code == 2
    assert err.count("\n") == 1
    assert "--split val: this run has none (data.val_fraction=0); take --split train" in err


REFUSED = [
    ([], "the following arguments are required: RUN"),
    (["nowhere"], "nowhere: no run directory here or below; give one that lets-train has written, or its parent"),
    (["RUN", "--rho", "0"], "argument --rho: 0: must be a finite number above 0"),
    (["RUN", "--adaptive-rho", "inf"], "argument --adaptive-rho: inf: must be a finite number above 0"),
    (["RUN", "--span", "nan"], "argument --span: nan: must be a finite number above 0"),
    (["RUN", "--m", "0"], "argument --m: 0: must be a whole number of at least 1"),
    (["RUN", "--examples", "many"], "argument --examples: many: must be a whole number of at least 1"),
    (["RUN", "--seed", "-1"], "argument --seed: -1: must be a whole number of at least 0"),
    (["RUN", "--trace-samples", "1"], "argument --trace-samples: 1: must be a whole number of at least 2"),
    (["RUN", "--grid", "41", "20"], "argument --grid: 20: must be an odd number of at least 3"),
    (["RUN", "--only", "sharp"], "argument --only: invalid choice: 'sharp'"),
    (["RUN", "--device", "gpu"], "argument --device: gpu: must be auto, cpu, cuda or cuda:N"),
    (["RUN", "--eigenvalues", "9999"], "hessian: eigenvalues=9999: must be fewer than the weights"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_bad_input_is_one_line(run, lets_probe, arguments, message):
    code, _, err = lets_probe(*[run if word == "RUN" else word for word in arguments])
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith("lets-probe: ")
    assert message in err
    assert not (run / "probe").exists()


def test_without_its_extra_only_the_hessian_is_missing(run, lets_probe, monkeypatch):
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    monkeypatch.delitem(sys.modules, "lets_runner.probe.hessian", raising=False)
    code, _, err = lets_probe(run, *QUICK)
    assert code == 2
    assert err.count("\n") == 1
    assert "pip install 'lets_runner[probe]'" in err
    assert lets_probe(run, *QUICK, "--only", "sharpness")[0] == 0
