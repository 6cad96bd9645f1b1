"""The README's code runs as it stands there."""

import itertools
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lets_runner import LETS, cli

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


def commands():
    lines = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("lets-train")]


def test_the_five_lines_train():
    torch.manual_seed(0)
    batches = [(torch.randn(8, 4), torch.arange(8) % 3) for _ in range(6)]
    model = nn.Linear(4, 3)
    names = {
        "torch": torch,
        "model": model,
        "cycle": itertools.cycle,
        "train_loader": batches,
        "val_loader": batches[:2],
        "loss_of": lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
    }
    before = model.weight.clone()
    exec(blocks("python")[0], names)
    assert isinstance(names["optimizer"], LETS)
    assert not torch.equal(model.weight, before)
    assert names["optimizer"].rho != 0.5


@pytest.mark.parametrize("command", commands())
def test_its_commands_compose(command):
    words = [word for word in shlex.split(command)[1:] if not word.startswith("-") and word != "job"]
    assert words or command in ("lets-train", "lets-train --cfg job")
    for overrides in itertools.product(
        *([f"{key}={v}" for v in re.split(r",(?![^[]*\])", value)] for key, value in (w.split("=") for w in words))
    ):
        cli.compose(*overrides)


def test_a_variant_in_a_folder_of_ones_own_trains(tmp_path, monkeypatch, capfd):
    """The example of the README, word by word: one file, one yaml, `--config-dir`."""
    [module] = [block for block in blocks("python") if block.startswith("# mysam.py")]
    [yaml] = [block for block in blocks("yaml") if block.startswith("# conf/sam/sign.yaml")]
    (tmp_path / "mysam.py").write_text(module)
    (tmp_path / "conf" / "sam").mkdir(parents=True)
    (tmp_path / "conf" / "sam" / "sign.yaml").write_text(yaml)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["lets-train", "--config-dir", "conf", "sam=sign", "epochs=1", "progress=false"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    cli.main()
    assert " in runs/digits-convnet-lets_sign/" in capfd.readouterr().out
