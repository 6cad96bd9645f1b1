"""Translation from the command line: BLEU and what was said, killed and resumed, methods, and what is refused."""

import csv
import json
import subprocess
import sys

import pytest
from conftest import grid, lets_train, train
from corpus import write_corpus
from killing import in_child, killed_after_step, state_of

from lets_runner.probe import command
from lets_runner.report.curves import read_columns

SMALL = ("model.layers=1", "model.width=16", "model.hidden=32", "model.heads=2", "model.dropout=0.1")
TRAINED = ("optimizer=adamw", "optimizer.lr=0.01", "schedule=inverse_sqrt", "schedule.warmup=10")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("text"), train=120)


def words(root, *more):
    data = (f"data.root={root}", "data.merges=40", "data.max_tokens=200", "batch_size=24")
    chosen = ("data=iwslt14", "task=translation", "model=transformer_iwslt", "task.beam=2", "device=cpu")
    return [*chosen, *data, *SMALL, *TRAINED, *more]


def refused(monkeypatch, capfd, *given):
    """The line that such a command ends with, and nothing made."""
    assert lets_train(monkeypatch, "progress=false", *given) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1, err
    return err


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"), *words(root, "epochs=6", "method=lets_sam"))


def test_what_was_said_is_written_down_and_sacrebleu_finds_the_same(root, whole):
    summary = json.loads((whole / "summary.json").read_text())
    said = (whole / "hypotheses.txt").read_text(encoding="utf-8").splitlines()
    assert len(said) == len((root / "test.en").read_text().splitlines()) == 9
    for name, tokenize in {"bleu": "13a", "tokenized_bleu": "none"}.items():
        command = [sys.executable, "-m", "sacrebleu", root / "test.en", "-i", whole / "hypotheses.txt", "--force"]
        done = subprocess.run([*command, "-tok", tokenize, "-w", "8"], capture_output=True, text=True, check=True)
        printed = json.loads(done.stdout)
        assert printed["score"] == pytest.approx(summary[f"test_{name}"], abs=1e-8)
        assert printed["signature"] == summary["signatures"][name]
    assert 0 < summary["test_bleu"] < 100


def test_validation_loss_falls_and_chooses(whole):
    epochs = read_columns(whole / "epochs.csv")
    losses = epochs["val_loss"]
    assert losses[-1] < losses[2] < losses[0] - 0.5
    assert [name for name in epochs if name.startswith(("train_", "val_", "test_"))] == [
        *("train_loss", "val_loss", "val_perplexity")
    ]
    summary = json.loads((whole / "summary.json").read_text())
    assert [column["name"] for column in summary["columns"] if column["selects"]] == ["loss"]
    assert summary["rho"] != summary["rho_start"]


def test_its_end_is_told_in_a_line(root, whole, capfd):
    train(whole.parents[2], *words(root, "epochs=6", "method=lets_sam"))
    out = capfd.readouterr().out
    summary = json.loads((whole / "summary.json").read_text())
    assert out.startswith(f"already finished: test loss {summary['test_loss']:.4g} nats (validation ")
    bleu, tokenized = summary["test_bleu"], summary["test_tokenized_bleu"]
    assert f"), bleu {bleu:.4g}, tokenized bleu {tokenized:.4g}, rho 0.05 -> " in out


@pytest.mark.parametrize("method", grid(["sam", "lets_sam", "horizon_asam"], ["lets_sam"]))
def test_killed_and_resumed_ends_the_same_to_the_bit(root, tmp_path, method):
    settings = words(root, f"method={method}", "checkpoint.every_steps=3", "accumulate=2")
    uninterrupted = train(tmp_path / "whole", *settings)
    total = json.loads((uninterrupted / "summary.json").read_text())["step"]
    assert total % 2 == 0 and total // 2 % 3  # two epochs, and neither ends with a checkpoint of its own
    for step in (3, total // 2, total // 2 + 2):
        output = tmp_path / f"killed-{step}"
        assert in_child(killed_after_step, output, step - step % 3 or step, settings) < 0
        directory = train(output, *settings)
        assert state_of(directory) == state_of(uninterrupted)
        assert (directory / "hypotheses.txt").read_bytes() == (uninterrupted / "hypotheses.txt").read_bytes()


@pytest.mark.parametrize(
    "more",
    [
        ("method=lets_sam", "radius.curvature=exact"),
        ("method=lets_asam", "precision=bf16", "radius.curvature=secant"),
        ("method=horizon_sam", "model.share_embeddings=true", "test_each_epoch=true"),
        ("sam=vasso", "radius=gap_matching", "grad_clip=0.5"),
        ("method=erm", "model.settings.activation_function=gelu", "optimizer=adam"),
    ],
    ids=lambda more: more[0] + more[1],
)
def test_methods_train(root, tmp_path, more):
    more = [f"+{word}" if word.startswith("model.settings.") else word for word in more]
    directory = train(tmp_path, *words(root, "epochs=3", *more))
    epochs = read_columns(directory / "epochs.csv")
    assert epochs["val_loss"][-1] < epochs["val_loss"][0]
    assert ("test_bleu" in epochs) is ("test_each_epoch=true" in more)
    if "test_bleu" in epochs:
        summary = json.loads((directory / "summary.json").read_text())
        assert epochs["test_bleu"][-1] == pytest.approx(summary["test_bleu"], rel=1e-8)
        with open(directory / "epochs.csv", newline="") as file:
            assert "train_bleu" not in next(csv.reader(file))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ("sam=esam", "radius=fixed"),
            "sam: ESAM needs the loss of every example, and Translation has a mean over tokens",
        ),
        (("sam=m_sam", "radius=fixed", "sam.m=12"), "sam: MSAM needs shards of equal weight"),
        (("task=classification",), "the targets of ParallelText are sentences; take task=translation"),
        (("model=mlp",), "model: MLP does not translate: take model=transformer_iwslt"),
        (("data.max_tokens=9",), "data.max_tokens=9: a sentence has "),
        (
            ("data.max_tokens=25", "accumulate=4"),
            "data.max_tokens=25: makes a batch of 1 sentences, too few for 4 parts",
        ),
        (("data.max_tokens=0",), "data.max_tokens=0: must be at least 1"),
        (("data.train=train_subset",), "there is no train_subset.de; put the sentences of both languages there"),
        (("model.heads=3",), "model.layers=1, width=16, hidden=32, heads=3: must be at least 1, and heads divide"),
        (("model.dropout=1.0",), "model.dropout=1.0: must lie in [0, 1)"),
        (("schedule.warmup=0",), "schedule.warmup=0: must be at least 1"),
        (("batch_size=1000",), "batch_size=1000: there are only 120 training examples"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_one_line(root, tmp_path, monkeypatch, capfd, more, message):
    given = [word for word in words(root) if not (more[0] == "model=mlp" and word.startswith("model."))]
    given = [word for word in given if not (more[0] == "task=classification" and word.startswith("task."))]
    line = refused(monkeypatch, capfd, f"output={tmp_path / 'runs'}", "method=sam", *given, *more)
    assert message in line
    assert not (tmp_path / "runs").exists()


def test_other_data_are_for_other_models(tmp_path, monkeypatch, capfd):
    given = (f"output={tmp_path / 'runs'}", "model=transformer_iwslt")
    assert "model: this model takes sentences of tokens" in refused(monkeypatch, capfd, *given)


def test_without_the_extra_one_line_names_it(root, tmp_path, monkeypatch, capfd):
    for package in ("transformers", "sacrebleu.metrics"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            line = refused(patch, capfd, f"output={tmp_path / 'runs'}", *words(root))
        assert "pip install 'lets_runner[text]'" in line


def test_a_probe_refuses_in_one_line(whole, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["lets-probe", str(whole)])
    monkeypatch.setattr("warnings.showwarning", None)
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 2
    assert "Translation has no loss of its own for every example" in capfd.readouterr().err
    assert not (whole / "probe").exists()
