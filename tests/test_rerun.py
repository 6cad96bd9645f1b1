"""A run's own config.yaml, run again."""

import json

import pytest
from conftest import lets_train, train

from lets_runner.report.grid import grid
from lets_runner.report.runs import find

WORDS = ("model=mlp", "model.width=8", "batch_size=128", "data.val_fraction=0.2", "method=lets_sam", "device=cpu")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return train("runs", *WORDS)


def again(monkeypatch, run, *words):
    return lets_train(monkeypatch, "--config-dir", str(run), "--config-name", "config", *words)


def columns(path):
    """`epochs.csv` without the seconds, the last column."""
    return [line.rpartition(",")[0] for line in (path / "epochs.csv").read_text().splitlines()]


def test_another_seed_is_one_of_the_same_configuration(tmp_path, monkeypatch, capfd, run):
    assert again(monkeypatch, run, "seed=3") == 0
    other = run.parent / "seed=3"
    assert capfd.readouterr().out.endswith(f"in {other}\n")
    assert columns(other) == columns(train("elsewhere", *WORDS, "seed=3"))
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "elsewhere"}  # Hydra leaves nothing of its own
    [cell] = grid(find([tmp_path / "runs"]).runs).cells
    assert [one.seed for one in cell.runs] == [0, 3]
    assert again(monkeypatch, other, "seed=4") == 0  # of what was itself run again
    assert (run.parent / "seed=4" / "summary.json").is_file()


def test_the_same_again_is_finished(monkeypatch, capfd, run):
    before = (run / "config.yaml").read_bytes()
    capfd.readouterr()
    assert again(monkeypatch, run) == 0
    assert capfd.readouterr().out.startswith("already finished: ")
    assert (run / "config.yaml").read_bytes() == before and b"origin" not in before


def test_what_is_changed_is_another_configuration(tmp_path, monkeypatch, run):
    assert again(monkeypatch, run, "optimizer.lr=0.2", "output=other") == 0
    [summary] = (tmp_path / "other").rglob("summary.json")
    assert summary.parents[2].name == run.parents[1].name == "digits-mlp-lets_sam"
    assert summary.parents[1].name != run.parent.name
    assert "lr: 0.2" in (summary.parent / "config.yaml").read_text()


def test_a_sweep_of_it(monkeypatch, capfd, run):
    assert again(monkeypatch, run, "-m", "seed=0,1,2") == 0
    assert "3 runs: 2 finished, 0 failed, 1 skipped (finished before)" in capfd.readouterr().out
    assert {path.name for path in run.parent.iterdir()} == {"seed=0", "seed=1", "seed=2"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epochs=4"], "was resolved for 14 steps, and this makes 28: its schedules would not fit"),
        (["batch_size=64"], "was resolved for 14 steps"),
        (["optimizer.learning_rate=1"], "there is no key optimizer.learning_rate; did you mean optimizer.lr?"),
        (["epochs=many"], "epochs: Value 'many' of type 'str' could not be converted to Integer"),
        (["seed=-1"], "seed=-1: must lie between"),
    ],
)
def test_what_does_not_fit_is_one_line_and_makes_nothing(tmp_path, monkeypatch, capfd, run, words, message):
    before = sorted(tmp_path.rglob("*"))
    assert again(monkeypatch, run, *words, "progress=false") == 2
    err = capfd.readouterr().err
    assert err.startswith("lets-train: ") and err.count("\n") == 1
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.yaml", lambda text: text + "\n]: [", "config.yaml cannot be read: "),
        ("config.yaml", lambda text: text.replace("epochs: 2", "epochs: two"), "config.yaml cannot be read: "),
        ("summary.json", lambda text: json.dumps({"status": "running"}), "does not say what this run is called"),
    ],
)
def test_damage_is_one_line(monkeypatch, capfd, run, file, change, message):
    (run / file).write_text(change((run / file).read_text()))
    assert again(monkeypatch, run, "seed=3") == 2
    err = capfd.readouterr().err
    assert err.startswith("lets-train: ") and err.count("\n") == 1
    assert message in err
