"""`scripts/digits_noise.py`, on summaries that are made here."""

import importlib.util
import json
from pathlib import Path

import pytest

from lets_runner import cli

SCRIPT = Path(__file__).parents[1] / "scripts" / "digits_noise.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("digits_noise", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pretend(script, output, noise, accuracy):
    """Leave the summaries of a seed of all that the script would train."""
    for words in script.sweeps(output, 1, noise):
        cfg, named = cli.compose(*(word for word in words if not word.startswith("sam.rho=")))
        for rho in [None] if named["method"] == "erm" else script.RADII:
            path = Path(cfg.output) / named["method"] / str(rho) / "summary.json"
            path.parent.mkdir(parents=True)
            summary = {"method": named["method"], "rho_start": rho, "test_accuracy": accuracy}
            path.write_text(json.dumps({"status": "finished", **summary}))


def test_levels_of_noise_are_kept_apart(script, tmp_path):
    pretend(script, tmp_path, 0.2, 0.9)
    pretend(script, tmp_path, 0.4, 0.7)
    cells = 2 * (1 + 5 * 5)  # networks, and SGD beside five rules from five radii
    assert script.table(tmp_path, 0.2).count("90.0 ± 0.0") == cells
    assert script.table(tmp_path, 0.4).count("70.0 ± 0.0") == cells
