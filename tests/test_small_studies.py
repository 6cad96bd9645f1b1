"""`scripts/text_smoke.py` and `scripts/robustness.py`: their tables of results that are made here, and a training."""

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import write_cifar10
from corpus import write_corpus

ROOT = Path(__file__).parents[1]
LITTLE = ("model.layers=1", "model.width=16", "model.hidden=32", "model.heads=2", "data.merges=40", "epochs=1")
LITTLE = (*LITTLE, "data.max_tokens=200", "batch_size=16")
HELD = {  # what docs hold of a table, and where
    "docs/text.md": ("text_smoke", "sst2", "iwslt14"),
    "docs/models.md": ("robustness", ""),
}


def script(name, monkeypatch):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def smoke(monkeypatch):
    return script("text_smoke", monkeypatch)


@pytest.fixture
def robustness(monkeypatch):
    return script("robustness", monkeypatch)


def test_short_pairs_are_those_of_few_words(smoke, tmp_path, monkeypatch):
    lines = {"train_de": ["a b", "c " * 13, "d", "", "f"], "train_en": ["A", "C", "D " * 12, "E", "F " * 13]}
    root = write_corpus(tmp_path / "iwslt14", **lines)
    monkeypatch.setitem(smoke.MOST, "test", 4)
    pairs = smoke.short_pairs(root, tmp_path / "pairs")
    assert (pairs / "train.de").read_text() == "a b\nd\n"
    assert (pairs / "train.en").read_text().split() == ["A", *["D"] * 12]
    assert len((pairs / "test.en").read_text().splitlines()) == 4
    assert "copying the source: tokenized BLEU 0.00" not in smoke.baseline("iwslt14", tmp_path)  # both have full stops


@pytest.mark.full
def test_runs_of_text_are_kept_a_row_each_and_not_made_twice(smoke, tmp_path, monkeypatch):
    write_corpus(tmp_path / "iwslt14", train=100)
    monkeypatch.setattr(smoke, "METHODS", {"ERM": ("method=erm",), "SAM, ρ = 0.05": ("method=sam", "sam.rho=0.05")})
    plain = smoke.PROBLEMS["iwslt14"]
    words = tuple(word for word in plain.words if word.split("=")[0] not in {w.split("=")[0] for w in LITTLE})
    monkeypatch.setitem(smoke.PROBLEMS, "iwslt14", smoke.Problem((*words, *LITTLE), plain.scores))
    monkeypatch.setattr(smoke, "SEEDS", (0, 3))
    kept = tmp_path / "kept" / "runs.csv"
    smoke.run_all("iwslt14", tmp_path, kept, ["task.beam=1"])
    rows = smoke.read(kept)
    assert [smoke.key(row)[1:] for row in rows] == [(m, s) for m in smoke.METHODS for s in ("0", "3")]
    ratio = {row["method"]: float(row["gradient_evaluations"]) / float(row["step"]) for row in rows}
    assert ratio == {"ERM": 1, "SAM, ρ = 0.05": 2}
    before = kept.read_bytes()
    smoke.run_all("iwslt14", tmp_path, kept, ["epochs=none"])  # which no run would take
    assert kept.read_bytes() == before


def test_tables_of_text_say_means_over_seeds(smoke):
    common = {"problem": "sst2", "rho": "0.02", "gradient_evaluations": "30", "step": "10", "seconds": "7"}
    rows = [
        {**common, "method": "horizon LETS", "seed": str(seed), "test_accuracy": str(accuracy)}
        for seed, accuracy in enumerate((0.8, 0.82))
    ]
    assert smoke.table("sst2", rows).splitlines()[2:] == ["| horizon LETS | 81.0 ± 1.4 | 0.02 | 3.00 |"]


def row(method, about, accuracy, noise="0.0"):
    measured, corruption, severity = about
    return {
        **{"label_noise": noise, "method": method, "measured_on": measured},
        **{"corruption": corruption, "severity": severity, "accuracy_mean": str(accuracy), "accuracy_sd": "0.01"},
        **{"ece_mean": str(accuracy / 10), "ece_sd": "", "nll_mean": "1.5", "nll_sd": "0.25"},
    }


def test_the_table_of_robustness_has_means_of_each_kind(robustness):
    fog = [row("erm", (robustness.CORRUPTED, "fog", str(s)), 0.5 + s / 100) for s in (1, 5)]
    every = [row("erm", (robustness.CORRUPTED, name, "1"), 0.3) for name in robustness.ALL if name != "fog"]
    rows = [row("erm", ("test", "", ""), 0.9), row("erm", (robustness.CORRUPTED, "", ""), float("nan")), *fog, *every]
    [line] = robustness.table(rows).splitlines()[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:5] == ["0 %", "ERM", "90.0 ± 1.0", "9.0", "1.500 ± 0.250"]
    weather, all_of_them = (0.51 + 0.55 + 3 * 0.3) / 5, (0.51 + 0.55 + 14 * 0.3) / 16
    assert cells[5:] == ["30.0", "30.0", f"{100 * weather:.1f}", "30.0", f"{100 * all_of_them:.1f}", cells[-1]]
    assert float(cells[-1]) == pytest.approx(10 * all_of_them, abs=0.05)


@pytest.mark.full
def test_corrupted_images_are_written_as_published(robustness, tmp_path):
    write_cifar10(tmp_path / "data", records=400)
    folder = robustness.corrupted(tmp_path / "runs", tmp_path / "data", ["data.test_images=20"])
    assert {path.stem for path in folder.iterdir()} == {*robustness.ALL, "labels"}
    images = np.load(folder / "contrast.npy")
    assert images.shape == (100, 16, 16, 3) and images.dtype == np.uint8
    spread = images.reshape(5, -1).std(1)
    assert (np.diff(spread) < 0).all()


@pytest.mark.parametrize("page", HELD)
def test_pages_hold_what_the_scripts_print(page, monkeypatch):
    name, *problems = HELD[page]
    module, text = script(name, monkeypatch), (ROOT / page).read_text(encoding="utf-8")
    for problem in problems:
        table = module.table(problem, module.read(module.KEPT)) if problem else module.table(module.read(module.KEPT))
        assert len(table.splitlines()) > 5 and table in text


def test_kept_rows_have_the_scripts_columns(smoke):
    with smoke.KEPT.open(newline="", encoding="utf-8") as file:
        assert next(csv.reader(file)) == [*smoke.FIELDS]
