"""Every file of every group of conf/ trains from the command line."""

import json
import math
from importlib.util import find_spec

import numpy as np
import pytest
from conftest import grid, lets_train, write_cifar10, write_cifar100, write_csv, write_glue, write_imagenet
from corpus import write_corpus

from lets_runner import cli
from lets_runner.report.curves import read_columns

# `hydra` holds launchers and sweepers: see test_launchers.py and test_sweep.py.
GROUPS = sorted(path.name for path in cli.CONF.iterdir() if path.is_dir() and path.name != "hydra")
EVERY = [(group, path.stem) for group in GROUPS for path in sorted((cli.CONF / group).glob("*.yaml"))]
# Many seconds each, most of them like one that is not.
SLOW = [("experiment", name) for name in ("imagenet_resnet50", "generalization_gap", "label_noise", "loss_landscape")]
SLOW += [("experiment", "cifar100_resnet18"), ("experiment", "rho_init"), ("model", "resnet50"), ("logger", "mlflow")]
# What makes a large model small enough to take steps in moments.
SMALL = {
    "pyramidnet110": ["model.depth=8", "model.alpha=9"],
    "pyramidnet272": ["model.depth=11", "model.alpha=9"],
    "resnet18": ["model.stem=imagenet"],
    "resnet50": ["model.stem=imagenet"],
    "timm": ["model.name=test_resnet"],
    "transformer_iwslt": ["model.layers=1", "model.width=12", "model.hidden=16", "model.heads=2"],
    "torchvision": ["model.name=shufflenet_v2_x0_5"],
    "auto_text": ["model.depth=1", "model.width=16"],
    "deberta_base": ["model.pretrained=null", "model.depth=1", "model.width=16", "model.heads=2"],
    "vit_s": ["model.depth=1", "model.width=12", "model.heads=3"],
    "wrn28_10": ["model.depth=10", "model.width=1"],
}
TEXT_MODELS = ("auto_text", "deberta_base")
ONE_OF_A_SWEEP = ["method=lets_sam", "seed=0", "data.label_noise=0.2", "sam.rho=0.05"]


def cifar10(root):
    write_cifar10(root, records=10)
    return [f"data.root={root}"]


def cifar100(root):
    write_cifar100(root, records=200)
    return [f"data.root={root}", "batch_size=50", "val_batch_size=12"]


def imagenet(root):
    write_imagenet(root, train=20)
    return [f"data.root={root}", "data.classes=3", "data.size=32", "data.workers=0"]


def table(root):
    path = write_csv(root / "table.csv", "a,b,y", np.random.default_rng(0).normal(size=(60, 3)))
    return [f"data.path={path}", "data.target=y", "model=mlp", "task=regression"]


def labelled_table(root):
    rows = np.random.default_rng(0).normal(size=(60, 3))
    path = write_csv(root / "table.csv", "a,b,y", np.column_stack([rows, np.arange(60) % 2])[:, 1:])
    return [f"data.path={path}", "data.target=y", "model=mlp"]


def glue(root, model="auto_text"):
    write_glue(root, "mrpc", train=60)
    words = [f"data.root={root}", "data.task=mrpc", "data.vocabulary_size=300", "data.max_length=16"]
    return [*words, f"model={model}", *SMALL[model]]


def iwslt14(root):
    settings = [f"data.root={write_corpus(root)}", "data.merges=30", "data.max_tokens=160", "task.beam=2"]
    return [*settings, "task=translation", "model=transformer_iwslt", *SMALL["transformer_iwslt"]]


FILES = {"cifar10": cifar10, "cifar100": cifar100, "imagenet": imagenet}
FILES |= {"table": table, "labelled_table": labelled_table, "digits": lambda root: [], "glue": glue}
FILES |= {"iwslt14": iwslt14}


def words_for(group, choice, root):
    """What the command line needs beside the choice, for it to be quick and to have its data."""
    words = ["epochs=1", "batch_size=12", "progress=false", "data.val_fraction=0.5", "precision=fp32"]
    if "iwslt" in choice or choice == "translation":
        words.remove("data.val_fraction=0.5")  # it has a validation set of its own
        return [*words, "data=iwslt14", *iwslt14(root), *(ONE_OF_A_SWEEP[:2] if group == "experiment" else [])]
    if group == "data":
        return [*words, *FILES[choice](root)]
    if group == "task" and choice == "regression":
        return [*words, "data=table", *table(root)]
    if choice == "glue" and group != "experiment":
        return [*words, "data=glue", *glue(root)]
    if group == "model" and choice in TEXT_MODELS:
        return [*words, "data=glue", *glue(root, choice)]
    if group == "model":
        return [*words, "data=cifar10", *cifar10(root), *SMALL.get(choice, [])]
    if group == "experiment":
        data = next((name for name in ("cifar100", "imagenet", "digits") if choice.startswith(name)), "cifar10")
        data = {"generalization_gap": "cifar100", "glue": "glue"}.get(choice, data)
        if data == "glue":
            return [*words, *glue(root, "deberta_base"), *ONE_OF_A_SWEEP]
        network = next((name for name in SMALL if choice.endswith(name)), "convnet" if data == "digits" else "resnet18")
        return [*words, *FILES[data](root), *ONE_OF_A_SWEEP, f"model={network}", *SMALL.get(network, [])]
    words += ["batch_size=256", "model=mlp", "model.width=8"]
    if group == "sweep":
        return [*words, *ONE_OF_A_SWEEP]
    if group == "sam" and choice in ("none", "le_sam", "momentum_sam", "sampa"):  # nobody may learn the radius of these
        return [*words, "radius=fixed"]
    if (group, choice) == ("sam", "sam_on"):  # which needs layers that normalize
        return [*words, "model=convnet", "model.width=4", "model.batch_norm=true"]
    return words


@pytest.mark.parametrize(("group", "choice"), grid(EVERY, [one for one in EVERY if one not in SLOW]))
def test_every_choice_trains_from_the_command_line(tmp_path, monkeypatch, capfd, group, choice):
    if group == "logger" and choice != "none" and find_spec(choice) is None:
        pytest.skip(f"{choice} is not installed")
    (tmp_path / "data").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    given = words_for(group, choice, tmp_path / "data")
    assert lets_train(monkeypatch, f"{group}={choice}", *given) == 0, capfd.readouterr().err
    [path] = (tmp_path / "here" / "runs").glob("*/*/seed=0/summary.json")
    summary = json.loads(path.read_text())
    assert summary["status"] == "finished"
    assert math.isfinite(summary["test_loss"])
    steps = read_columns(path.parent / "steps.csv")
    assert len(steps["loss"]) == summary["step"] >= 2
    assert (path.parent / "checkpoints" / "best.pt").is_file()
    if group == "model":
        assert summary["model"] == choice
    if group in ("experiment", "radius") and choice != "fixed":
        assert summary["rho"] != summary["rho_start"]


VARIANTS_OTHERWISE = {
    "asam-named": ["sam=asam", "sam.scope=named"],
    "asam-all": ["sam=asam", "sam.scope=all"],
    "f_sam": ["sam=f_sam", "sam.follow=program"],
    "esam": ["sam=esam", "sam.follow=paper"],
    "ae_sam": ["sam=ae_sam", "sam.corrected=true"],
    "ae_looksam": ["sam=ae_looksam", "sam.corrected=true"],
    "sam_on": ["sam=sam_on", "sam.adaptive=true", "sam.xi=0.01"],
}


@pytest.mark.parametrize("words", VARIANTS_OTHERWISE.values(), ids=VARIANTS_OTHERWISE)
def test_variants_with_other_settings_train_with_lets(tmp_path, monkeypatch, capfd, words):
    monkeypatch.chdir(tmp_path)
    given = words_for("sam", words[0].removeprefix("sam="), tmp_path)
    assert lets_train(monkeypatch, *words, "radius=lets", *given) == 0, capfd.readouterr().err
    [path] = (tmp_path / "runs").glob("*/*/seed=0/summary.json")
    summary = json.loads(path.read_text())
    assert math.isfinite(summary["test_loss"])
    assert summary["rho"] != summary["rho_start"]
