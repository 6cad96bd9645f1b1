"""The examples of docs/integrations.md, word by word, on CPUs and without a file left behind."""

import itertools
import re
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import transformers
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

PAGE = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"## (.*?)\n.*?```python\n(.*?)```", PAGE, re.S)

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's and transformers' remarks


def names():
    torch.manual_seed(0)
    pairs = TensorDataset(torch.randn(8, 4), torch.randn(8, 1))
    return {
        "torch": torch,
        "nn": nn,
        "cycle": itertools.cycle,
        "model": nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)),
        "train_loader": DataLoader(pairs, batch_size=4),
        "val_loader": DataLoader(pairs, batch_size=4),
        "loss_of": lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]),
    }


def weights(model):
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


def block(heading):
    [code] = [code for title, code in BLOCKS if title == heading]
    return compile(code, heading, "exec")


def test_lightning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    monkeypatch.setattr(pl, "Trainer", lambda **settings: pl.trainer.trainer.Trainer(**settings, **quiet))
    found = names()
    exec(block("Lightning"), found)
    assert found["trainer"].global_step == 4
    assert found["trainer"].model.optimizers().optimizer.rho != 0.05


def test_accelerate(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    found = names()
    before = weights(found["model"])
    exec(block("accelerate"), found)
    assert not torch.equal(weights(found["model"]), before)
    assert found["optimizer"].rho != 0.05


def test_transformers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, quiet = transformers.TrainingArguments, {"use_cpu": True, "report_to": [], "disable_tqdm": True}
    monkeypatch.setattr(
        transformers,
        "TrainingArguments",
        lambda **given: arguments(**given, **quiet),
    )
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=20, **sizes))
    rows = [{"input_ids": torch.randint(0, 20, (6,)), "labels": number % 2} for number in range(16)]
    found = {"model": model, "train_dataset": rows, "val_dataset": rows}
    before = weights(model)
    exec(block("transformers"), found)
    assert found["trainer"].state.global_step == 20
    assert not torch.equal(weights(model), before)


def test_groups():
    found = names()
    before = {name: p.clone() for name, p in found["model"].named_parameters()}
    exec(block("Radii of parameter groups"), found)
    moved = []

    def loss():
        moved.append({name: not torch.equal(p, before[name]) for name, p in found["model"].named_parameters()})
        return found["model"](torch.ones(2, 4)).square().mean()

    found["optimizer"].step(loss)
    assert moved[1] == {"0.weight": True, "0.bias": False, "2.weight": True, "2.bias": False}
