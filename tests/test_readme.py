"""The code of the README and of the pages behind it runs as it stands there."""

import itertools
import re
import shlex
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import peft
import pytest
import torch
from torch import nn

from lets_runner import LETS, SAM, cli, config
from lets_runner.models import auto_text

ROOT = Path(__file__).parents[1]
README, GUIDE, CONTRIBUTING, ARCHITECTURE, INDEX, TEXT, TRAINING = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "README.md",
        "docs/guide.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/index.md",
        "docs/text.md",
        "docs/training.md",
    )
)


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def commands():
    shell = [block for text in (README, GUIDE, TEXT, TRAINING) for block in blocks("sh", text)]
    lines = [line.split("#")[0].strip() for block in shell for line in block.splitlines()]
    lines = [line.replace("torchrun --nproc-per-node=2 -m lets_runner", "lets-train") for line in lines]
    return [line for line in lines if line.startswith("lets-train") and "--config-dir" not in line]


def test_the_first_page_is_short():
    lines = README.splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120


def test_pages_link_to_what_is_there():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{page.name}: {target}"


def test_the_readme_names_every_choice_of_every_group():
    rows = re.findall(r"^\| (?:`(\w+)`)? ?\| (.*) \|$", README, re.M)
    table, group = {}, None
    for name, choices in rows:
        group = name or group
        table[group] = table.get(group, "") + choices
    for group in ("method", "sam", "radius", "data", "task", "model", "optimizer", "schedule", "logger"):
        stems = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
        assert {*re.findall(r"`(\w+)`", table[group])} == stems, group


@pytest.mark.parametrize("text", [README, INDEX])
def test_the_five_lines_train(text):
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
    exec(blocks("python", text)[0], names)
    assert isinstance(names["optimizer"], LETS)
    assert not torch.equal(model.weight, before)
    assert names["optimizer"].rho != 0.5


@pytest.mark.parametrize("command", commands())
def test_its_commands_compose(command):
    words = [word for word in shlex.split(command)[1:] if not word.startswith("-") and word != "job"]
    assert words or command in ("lets-train", "lets-train --cfg job")
    for overrides in itertools.product(
        *([f"{key}={v}" for v in re.split(r",(?![^[]*\])", value)] for key, value in (w.split("=", 1) for w in words))
    ):
        cli.compose(*map(config.quoted, overrides))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft asks transformers for it
def test_low_rank_matrices_are_perturbed_alone():
    names = {"peft": peft, "LETS": LETS, "SAM": SAM, "AdamW": torch.optim.AdamW}
    shape = SimpleNamespace(length=16, vocabulary=50, padding=0)
    names["network"] = auto_text(shape, 2, width=8, depth=1).network
    exec(blocks("python", TEXT)[0], names)
    optimizer, network = names["optimizer"], names["network"]
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    ids = torch.arange(12).view(3, 4)
    loss = partial(loss_of, lambda ids: network(input_ids=ids).logits, ids, torch.tensor([0, 1, 1]))
    optimizer.step(loss, loss)
    changed = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if ".lora_" in name or ".modules_to_save." in name}


def test_a_variant_in_a_folder_of_ones_own_trains(tmp_path, monkeypatch, capfd):
    """The example of CONTRIBUTING.md, word by word: one file, one yaml, `--config-dir`."""
    [module] = [block for block in blocks("python", CONTRIBUTING) if block.startswith("# mysam.py")]
    [yaml] = [block for block in blocks("yaml", CONTRIBUTING) if block.startswith("# conf/sam/sign.yaml")]
    (tmp_path / "mysam.py").write_text(module)
    (tmp_path / "conf" / "sam").mkdir(parents=True)
    (tmp_path / "conf" / "sam" / "sign.yaml").write_text(yaml)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["lets-train", "--config-dir", "conf", "sam=sign", "epochs=1", "progress=false"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    cli.main()
    assert " in runs/digits-convnet-horizon_sign/" in capfd.readouterr().out


def test_the_thirty_lines_are_sam():
    """The architecture page's bare SAM takes the steps of the real one, where nothing needs what it lacks."""
    names = {}
    exec(blocks("python", ARCHITECTURE)[0], names)
    code = [line for line in blocks("python", ARCHITECTURE)[0].splitlines() if line.strip()]
    assert len(code) <= 36
    ends = []
    for make in (lambda base: names["BareSAM"](base, 0.1), lambda base: SAM(base, 0.1)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
        optimizer = make(torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9))
        inputs, labels = torch.randn(16, 4).double(), torch.arange(16) % 3
        loss = partial(loss_of, model, inputs, labels)
        for _ in range(5):
            optimizer.step(loss)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-12, atol=1e-14)


def loss_of(model, inputs, labels):
    return nn.functional.cross_entropy(model(inputs), labels)
