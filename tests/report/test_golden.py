"""Tables of classification, byte for byte as they were before tasks named what they measure."""

import json
from pathlib import Path

import pytest
from made import make_run

from lets_runner.report import command

GOLDEN = Path(__file__).parent / "golden"
PLAIN = [
    {"name": "loss", "unit": "", "better": "lower", "when": ["train", "val", "test"], "selects": False},
    {"name": "accuracy", "unit": "%", "better": "higher", "when": ["train", "val", "test"], "selects": True},
]


def make(root, **more):
    """Two data sets, kinds of noise, a grid of radii, a probed run, and directories that do not count."""
    for data in ("cifar10", "digits"):
        for place, method in enumerate(("erm", "sam", "asam", "lets_sam", "gm_sam", "ramp_sam")):
            for seed in range(3):
                accuracy = 0.9 - 0.02 * (place - 3) ** 2 + 0.005 * seed * (place + 1)
                make_run(root, data=data, method=method, seed=seed, accuracy=accuracy, **more)
    for rho in (0.02, 0.1, 0.2):
        make_run(root, rho=rho, accuracy=0.95 - rho, **more)
        make_run(root, rho=rho, method="lets_sam", noise=0.4, accuracy=0.8 - rho, **more)
    make_run(root, noise=0.4, extra={"data.noise": "asymmetric"}, **more)
    make_run(root, model="mlp", extra={"model.width": 3}, **more)
    probed = make_run(root, model="mlp", extra={"model.width": 4}, **more)
    (probed / "probe").mkdir()
    probe = {"hessian_eigenvalues": [10.5, 1.0], "hessian_trace": 100.0, "hessian_trace_error": 3.0}
    probe |= {"m_sharpness": {"0.1": 0.5, "0.05": 0.25}, "examples": 1000, "split": "train", "batch_norm": "eval"}
    (probed / "probe" / "probe.json").write_text(json.dumps(probe))
    make_run(root, seed=7, status="failed", error="a|b <i>")
    make_run(root, seed=8, status="running")


@pytest.mark.parametrize("more", [{}, {"columns": PLAIN}], ids=["before", "now"])
def test_tables_of_classification_are_what_they_were(tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    make(Path("runs"), **more)
    command.main(["runs", "--out", "out"])
    names = {path.name for path in GOLDEN.iterdir()}
    assert names == {path.name for path in Path("out").iterdir()} - {"index.html", "figures"}
    for name in sorted(names):
        assert (Path("out") / name).read_bytes() == (GOLDEN / name).read_bytes(), name
