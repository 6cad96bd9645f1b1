"""The command line: what is refused and how, sweeps, and what a session on it prints."""

import json
import os
import re
import subprocess
import sys
import warnings

import pytest
import torch
from conftest import lets_train, write_cifar10, write_cifar100, write_imagenet

from lets_runner import cli
from lets_runner.report.curves import read_columns

GROUPS = [path.name for path in cli.CONF.iterdir() if path.is_dir() and path.name != "hydra"]
REFUSED = [
    (["epochs=ten"], "epochs: Value 'ten'"),
    (["epochs=-1"], "epochs=-1: must be at least 1"),
    (["epoch=3"], "epoch=3: there is no key epoch; did you mean epochs?"),
    (["sam.roh=1"], "did you mean sam.rho?"),
    (["sam.rho=-1"], "sam.rho=-1: the radius must be"),
    (["sam.rho=nan"], "sam.rho=nan: must be a finite number"),
    (["sam.rho=much"], "sam.rho=much: must be a finite number"),
    (["method=lets_sam", "sam.rho=0.9"], "radius: learning starts from the variant's rho"),
    (["sam=none"], "take radius=fixed"),
    (["data.val_fraction=0"], "data.val_fraction=0: HorizonLETS learns"),
    (["data.val_fraction=0", "method=gm_sam"], "data.val_fraction=0: GapMatching learns"),
    (["sam=le_sam"], "radius: HorizonLETS cannot choose the radius of LESAM: it follows from"),
    (["sam=momentum_sam"], "radius: HorizonLETS cannot learn the radius of MomentumSAM: it evaluates no gradient at"),
    (["sam=sampa", "radius=lets"], "radius: LETS cannot learn the radius of SAMPa: its two gradients"),
    (["sam=momentum_sam", "radius=fixed", "optimizer.momentum=0"], "sam: SGD keeps no momentum for MomentumSAM to"),
    (["sam=sam_on"], "sam: SAM-ON perturbs normalization layers alone, and this model trains none: take one that has"),
    (["sam=f_sam", "sam.follow=code"], "sam.follow=code: must be one of paper, program"),
    (["sam=asam", "sam.scope=none"], "sam.scope=none: must be one of weights, named, all"),
    (["sam=gsam", "sam.rho_min=0.02"], "rho_min=null switches that off"),
    (["sam=m_sam", "batch_size=48"], "batch_size=48: must be a multiple of 32 (1 processes x shards of 32)"),
    (["data.val_fraction=1.5"], "data.val_fraction=1.5: must lie in [0, 1)"),
    (["data.label_noise=2"], "data.label_noise=2: must lie in [0, 1]"),
    (["data=cifar10", "data.root=/nonexistent", "data.download=false"], "/nonexistent: put cifar-10-batches-bin from"),
    (["data.noise=asymmetric"], "data.noise=asymmetric: Digits does not say"),
    (["data=imagenet", "data.size=8", "data.root=/nonexistent"], "data: no train/<class>/*.JPEG in /nonexistent: put"),
    (["data=imagenet", "data.workers=many"], "data.workers=many: must be auto, or a whole number of at least 0"),
    (["data=imagenet", "data.broken=mend"], "data.broken=mend: must be stop or skip"),
    (["batch_size=0"], "batch_size=0: must be at least 1"),
    (["batch_size=5000"], "only 1132 training examples"),
    (["val_batch_size=0"], "val_batch_size=0: must be at least 1"),
    (["checkpoint.every_steps=0"], "checkpoint.every_steps=0: must be at least 1"),
    (["seed=-1"], "seed=-1: must lie between 0 and 9223372036854775807"),
    (
        ["model=resnet19"],
        "model=resnet19: there is no such model; choose one of auto_text, convnet, deberta_base, mlp, pyramid",
    ),
    (["model=timm", "model.name=resnet27"], "model.name=resnet27: timm has no such classifier; did you mean resnet"),
    (["model=timm", "+model.settings.speed=1"], "model: a setting is missing, unknown or of the wrong type"),
    (["model=torchvision"], "model.name=resnet34: torchvision's networks take 3 channels, the images have 1"),
    (["model.width=0"], "model.width=0: must be at least 1"),
    (["accumulate=3"], "batch_size=64: must be a multiple of 3 (1 processes x 3 microbatches)"),
    (["accumulate=0"], "accumulate=0: must be at least 1"),
    (["sam=m_sam", "accumulate=2"], "accumulate=2: m-SAM goes shard by shard already"),
    (["grad_clip=0"], "grad_clip=0.0: must be a finite number above 0"),
    (["perturbation_sync=both"], "perturbation_sync=both: must be one of global, local"),
    (["channels_last=maybe"], "channels_last=maybe: must be one of true, false, auto"),
    (["graphs=maybe"], "graphs=maybe: must be one of true, false, auto"),
    (["graphs=true"], "graphs=true: CUDA graphs need a CUDA device, and the weights are on cpu; take graphs=auto"),
    (["distributed.strategy=tp"], "distributed.strategy: Invalid value 'tp', expected one of [ddp, fsdp]"),
    (["precision=fp8"], "precision: Invalid value 'fp8', expected one of [fp32, bf16, fp16, auto]"),
    (["device=gpu"], "device=gpu: must be auto, cpu, cuda or cuda:N"),
    (["optimizer.lr=-1"], "optimizer: Invalid learning rate: -1"),
    (["optimizer.lr=fast"], "optimizer.lr=fast: must be a finite number"),
    (["+optimizer.speed=1"], "optimizer: a setting is missing, unknown or of the wrong type"),
    (["radius=lets", "radius.curvature=full"], "radius.curvature=full: must be one of diag, secant, exact"),
    (["radius=lets", "radius.rho_lr=fast"], "radius.rho_lr=fast: must be a finite number or auto"),
    (["task.label_smoothing=2"], "task.label_smoothing=2: must lie in [0, 1]"),
    (["model._target_=lets_runner.models.Nothing"], "model: Error loading 'lets_runner.models.Nothing'"),
    (["epochs=[1"], "no viable alternative"),
    (["lr=0.1"], "lr=0.1: there is no key lr; did you mean optimizer.lr?"),
    (["rho=0.1"], "rho=0.1: there is no key rho; did you mean sam.rho?"),
    (["optimizer.learning_rate=1"], "there is no key optimizer.learning_rate; did you mean optimizer.lr?"),
    (["label_noise=0.4"], "there is no key label_noise; did you mean data.label_noise?"),
    (["+epoch=3"], "+epoch: the runner has no such key; did you mean epochs?"),
    (["hydra.sweper.params=1"], "there is no key hydra.sweper; did you mean hydra.sweeper?"),
    *(([f"{group}=null"], f"{group}=null: must name a choice of this group, or be left out") for group in GROUPS),
    (["data=3"], "data=3: must name a choice of this group"),
    (["~model"], "model: no value; give one, as in model=..."),
    (["~data"], "data: no value; give one, as in data=..."),
    (["epochs=${nope}"], "epochs=${nope}: Interpolation key 'nope' not found"),
    (["output=${nope}"], "output=${nope}: Interpolation key 'nope' not found"),
    (["seed=${seed}"], "seed=${seed}: Recursive interpolation detected"),
    (["optimizer.lr=${oc.env:NOT_SET}"], "optimizer.lr=${oc.env:NOT_SET}: KeyError raised"),
    (["epochs=${output}"], "epochs=${output}: While dereferencing"),
    (
        ["schedule=step", "schedule.milestones=[${share_of_steps:many}]"],
        "schedule.milestones[0]=${share_of_steps:many}:",
    ),
    (["-m", "output=${nope}", "seed=0,1"], "output=${nope}: Interpolation key 'nope' not found"),
    ([f"seed={2**64}"], f"seed={2**64}: must lie between 0 and {2**63 - 1}"),
    ([f"model.width={2**63}"], f"model.width={2**63}: is too large"),
    (["data.split_seed=null"], "data.split_seed=null: must be a whole number"),
    (["data.split_seed=-1"], "data.split_seed=-1: must be a whole number of at least 0"),
    (["data.label_noise=true"], "data.label_noise=true: must be a finite number"),
    (["optimizer.lr=nan"], "optimizer.lr=nan: must be a finite number"),
    (["optimizer.lr=inf"], "optimizer.lr=inf: must be a finite number"),
    (["optimizer.momentum=nan"], "optimizer.momentum=nan: must be a finite number"),
    (["optimizer.weight_decay=abc"], "optimizer.weight_decay=abc: must be a finite number"),
    (["optimizer=adam", "optimizer.betas=[0.9]"], "optimizer.betas=[0.9]: must be a list of 2"),
    (["model.width=1.5"], "model.width=1.5: must be a whole number"),
    (["epochs=1e9"], "epochs: Value '1000000000.0' of type 'float' could not be converted to Integer"),
    (["grad_clip=inf"], "grad_clip=inf: must be a finite number above 0"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capfd, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert lets_train(monkeypatch, *arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("lets-train: ")
    assert message in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_said(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert lets_train(monkeypatch, "device=cuda") == 2
    assert "device=cuda: torch sees no CUDA device here" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_cut_short_is_refused_before_anything_is_made(tmp_path, monkeypatch, capfd):
    folder = write_cifar10(tmp_path / "data")
    (folder / "data_batch_2.bin").write_bytes(b"\0" * 5000)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert lets_train(monkeypatch, "data=cifar10", f"data.root={tmp_path / 'data'}") == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "data_batch_2.bin has 5000 bytes" in err
    assert list((tmp_path / "here").iterdir()) == []


def test_as_a_module_in_a_process_of_its_own(tmp_path):
    """Standard error carries the progress, standard output one line."""
    command = [sys.executable, "-m", "lets_runner", "epochs=2", "device=cpu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("test accuracy ")
    assert done.stdout.count("\n") == 1
    assert ", rho 0.0" in done.stdout
    directory = tmp_path / done.stdout.strip().split(" in ")[1]
    assert (directory / "summary.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    for word in ("step 34 of 34", "loss ", "rho ", "accuracy "):
        assert word in done.stderr
    refused = subprocess.run([*command, "sam.roh=1"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2
    assert refused.stderr == "lets-train: sam.roh=1: there is no key sam.roh; did you mean sam.rho?\n"


def test_a_sweep_goes_on_after_failures_and_notes_them(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    sweep = ["-m", "method=sam", "epochs=1", "progress=false", "sam.rho=0.05,-1", "optimizer.lr=0.1,1e30", "seed=0"]
    assert lets_train(monkeypatch, *sweep) != 0
    summaries = [json.loads(path.read_text()) for path in tmp_path.rglob("summary.json")]
    errors = sorted(str(summary["error"]) for summary in summaries)
    assert len(summaries) == 4
    assert errors[0] == "None"
    assert errors[1] == errors[2] == "sam.rho=-1: the radius must be a finite number of at least 0"
    assert "pass gave a non-finite loss or gradient" in errors[3]
    err = capfd.readouterr().err
    assert err.count("lets-train: runs/digits-convnet-sam/") == 3
    assert "Traceback" not in err


def test_seeds_share_a_configuration_and_other_keys_do_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = ["-m", "method=erm", "epochs=1", "progress=false", "optimizer.lr=0.1,0.2", "seed=0,1"]
    assert lets_train(monkeypatch, *sweep) == 0
    configurations = list((tmp_path / "runs" / "digits-convnet-erm").iterdir())
    assert len(configurations) == 2
    for configuration in configurations:
        assert {path.name for path in configuration.iterdir()} == {"seed=0", "seed=1"}
        assert len({(configuration / f"seed={seed}" / "steps.csv").read_text() for seed in (0, 1)}) == 2


@pytest.mark.parametrize(("data", "write"), [("cifar10", write_cifar10), ("cifar100", write_cifar100)])
def test_cifar_files_train(tmp_path, monkeypatch, capfd, data, write):
    write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    arguments = [f"data={data}", "model.width=4", "epochs=1", "batch_size=32", "data.label_noise=0.4", "progress=false"]
    assert lets_train(monkeypatch, *arguments, "data.val_fraction=0.01") == 2
    assert "leaves none to learn the radius from" in capfd.readouterr().err
    assert lets_train(monkeypatch, *arguments, "data.val_fraction=0.5") == 0
    assert f"runs/{data}-convnet-horizon_sam/" in capfd.readouterr().out


def test_a_broken_image_stops_the_run_in_one_line_or_is_left_out(tmp_path, monkeypatch, capfd):
    root = write_imagenet(tmp_path / "data")
    broken = root / "val" / "n01" / "val_2.JPEG"  # of the test set: read after the last epoch
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    monkeypatch.chdir(tmp_path)
    arguments = ["data=imagenet", f"data.root={root}", "data.classes=3", "data.size=16", "data.workers=0", "epochs=1"]
    arguments += ["method=sam", "batch_size=4", "progress=false"]
    assert lets_train(monkeypatch, *arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"lets-train: {broken} cannot be read as an image (")
    reason = err[err.index("(") : err.index(")") + 1]
    assert err.endswith("put the whole file there, or leave such files out with data.broken=skip\n")
    [summary] = tmp_path.rglob("summary.json")
    assert json.loads(summary.read_text())["status"] == "failed"
    assert torch.load(summary.parent / "checkpoints" / "last.pt", weights_only=True)["step"] == 5
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert lets_train(monkeypatch, *arguments, "data.broken=skip") == 0
    out, err = capfd.readouterr()
    assert out.startswith("test accuracy ")
    assert err == f"lets-train: warning: {broken} cannot be read as an image {reason} and is left out\n"
    broken.write_bytes(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert lets_train(monkeypatch, *arguments) == 0
    out, err = capfd.readouterr()
    assert out.startswith("test accuracy ")
    assert err == "lets-train: warning: data: files have other sizes than when this run was begun\n"


def test_bf16_trains_and_keeps_rho_above_its_noise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lets = ("method=lets_sam", "precision=bf16", "progress=false")
    assert lets_train(monkeypatch, *lets, "epochs=3", "sam.rho=0.01") == 0
    [steps] = tmp_path.rglob("steps.csv")
    assert min(read_columns(steps)["rho"]) == pytest.approx(0.01, rel=1e-6)
    assert lets_train(monkeypatch, *lets, "sam.rho=0.005") == 2


def test_a_rule_without_a_start_claims_none(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert lets_train(monkeypatch, "method=horizon_sam", "epochs=1", "progress=false") == 0
    [summary] = tmp_path.rglob("summary.json")
    assert json.loads(summary.read_text())["rho_start"] is None
    assert re.search(r", rho [0-9.]+ in ", capfd.readouterr().out)


def test_the_configuration_can_be_shown(monkeypatch, capfd):
    assert lets_train(monkeypatch, "--cfg", "job") == 0
    out = capfd.readouterr().out
    assert "_target_: lets_runner.HorizonLETS" in out
    assert "precision: fp32" in out


def test_the_help_begins_with_the_name(monkeypatch, capfd):
    assert lets_train(monkeypatch, "--help") == 0
    assert capfd.readouterr().out.startswith("lets-train ")


def test_the_environment_is_left_as_it_was():
    assert os.environ.get("HYDRA_FULL_ERROR") != "1"
