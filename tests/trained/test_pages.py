"""`docs/models.md` and the notebook: what stands there runs."""

import re
import shlex
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import nbformat
import pytest
import torch
from conftest import train
from nbclient import NotebookClient

from lets_runner.evaluate import command as evaluate
from lets_runner.export import command as export

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "models.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    for line in block.splitlines()
    if line.startswith(("lets-eval", "lets-export"))
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs"), "epochs=1", "precision=fp32", "device=cpu")


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_are_understood(finished, tmp_path, monkeypatch, capfd, line):
    """As they stand there, but for places that only the reader has."""
    run = shutil.copytree(finished, tmp_path / "RUN")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("warnings.showwarning", None)
    elsewhere = "data.root" in line or "--corrupted" in line
    words = shlex.split(line)
    if "all" in words:
        words += ["--severities", "1"]
        monkeypatch.setattr(evaluate, "names", lambda wanted: ["contrast"] if wanted == ["all"] else [])
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) if words[0] == "lets-eval" else nullcontext() as stop:
        {"lets-eval": evaluate, "lets-export": export}[words[0]].main()
    said = capfd.readouterr()
    if elsewhere:
        assert ("no key data.root" if "root" in line else "sets/CIFAR-10-C/labels.npy: there is no") in said.err
    else:
        assert said.err == "" and (stop is None or stop.value.code == 0)
        assert (
            (run / "evaluation.csv").exists()
            or [*tmp_path.rglob("*.safetensors"), *tmp_path.rglob("*.onnx")]
            or [*tmp_path.rglob("model.pt2")]
        )


def test_its_lines_of_python_run(finished):
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    place = re.search(r'load\("(.*?)"\)', code)[1]
    names = {"images": torch.zeros(2, 1, 8, 8, dtype=torch.uint8)}
    exec(code.replace(place, str(finished)), names)
    assert names["scores"].shape == (2, 10) and names["batch"].dtype == torch.float32


@pytest.mark.full
def test_the_notebook_runs(tmp_path):
    book = nbformat.read(DOCS / "notebook.ipynb", 4)
    kept = "".join(output.get("text", "") for cell in book.cells for output in cell.get("outputs", []))
    NotebookClient(book, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}, timeout=300).execute()
    said = "".join(output.get("text", "") for cell in book.cells for output in cell.get("outputs", []))
    right, summary = re.search(r"(0\.\d+) of the test images, and the summary says (0\.\d+)", said).groups()
    assert right == summary and float(right) > 0.85
    assert sum("image/png" in output.get("data", {}) for cell in book.cells for output in cell.get("outputs", [])) == 2
    assert "gaussian_noise 5: loss" in said and "gaussian_noise 5: loss" in kept
