"""Runs on texts are probed as others are: sequences of several lengths are one set of examples."""

import json
import sys

import pytest
import torch
from conftest import train, write_glue
from torch.nn.functional import cross_entropy

from lets_runner import build, cli
from lets_runner.probe import command

LITTLE = ("model=auto_text", "model.depth=1", "model.width=16", "data.vocabulary_size=300", "data.max_length=30")


def test_sharpness_of_a_network_for_texts(tmp_path, monkeypatch):
    words = ["data=glue", "data.task=rte", f"data.root={write_glue(tmp_path / 'data', 'rte')}", *LITTLE]
    words += ["epochs=1", "batch_size=8", "precision=fp32", "method=sam"]
    run = train(tmp_path / "runs", *words)
    asked = ["--split", "test", "--m", "4", "--rho", "0.05", "--batch-size", "5", "--eigenvalues", "1"]
    asked += ["--trace-samples", "2", "--only", "sharpness", "hessian", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["lets-probe", str(run), *asked])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 0
    facts = json.loads((run / "probe" / "probe.json").read_text())
    cfg, _ = cli.compose(*words)
    parts = build.build(cfg, torch.device("cpu"))
    model = parts.trainer.model.eval()
    model.load_state_dict(torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"])
    [(inputs, targets)] = parts.test.in_order()
    assert facts["examples"] == len(targets) == 12
    assert facts["loss"] == pytest.approx(cross_entropy(model(inputs), targets).item(), rel=1e-5)
