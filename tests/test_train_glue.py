"""GLUE through the command line: its numbers, killed runs, several processes, every method."""

import json

import pytest
import torch
from conftest import grid, lets_train, train, write_glue
from killing import in_child, killed_after_step, state_of
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from test_distributed import directory_of, finish, launch, one_process

from lets_runner import build, cli
from lets_runner.report.curves import read_columns

LITTLE = ("model=auto_text", "model.depth=1", "model.width=16", "data.vocabulary_size=300", "data.max_length=16")
SHORT = ("data=glue", *LITTLE, "epochs=2", "batch_size=8", "data.val_fraction=0.2", "precision=fp32", "device=cpu")


def words_for(root, task, **sizes):
    return [*SHORT, f"data.task={task}", f"data.root={write_glue(root, task, **sizes)}", "progress=false"]


def predictions(directory, words):
    """Scores and targets of the test set, by the last checkpoint."""
    cfg, _ = cli.compose(*words)
    parts = build.build(cfg, torch.device("cpu"))
    model = parts.trainer.model
    model.load_state_dict(torch.load(directory / "checkpoints" / "last.pt", weights_only=True)["model"])
    with torch.no_grad():
        pairs = [(model.eval()(inputs), targets) for inputs, targets in parts.test.in_order()]
    return (torch.cat(column).double() for column in zip(*pairs, strict=True))


@pytest.mark.parametrize("task", grid(["cola", "mrpc", "stsb", "mnli"], ["stsb", "mnli"]))
def test_the_numbers_of_a_run_are_scikit_learns_and_scipys(tmp_path, task):
    words = words_for(tmp_path / "data", task)
    directory = train(tmp_path / "runs", *words, "optimizer.lr=0.01", "epochs=4")
    summary = json.loads((directory / "summary.json").read_text())
    scores, targets = predictions(directory, words)
    error = 1e-12
    if task == "stsb":
        x, y = scores.flatten().numpy(), targets.flatten().numpy()
        error = max(error, 1e-15 * (x.mean() / x.std()) ** 2)  # scores that are nearly all the same have lost digits
        expected = {"pearson": pearsonr(x, y).statistic, "spearman": spearmanr(x, y).statistic}
    else:
        classes = scores.argmax(1)
        expected = {"accuracy": accuracy_score(targets, classes)}
        if task == "cola":
            expected["mcc"] = matthews_corrcoef(targets, classes)
        if task == "mrpc":
            expected["f1"] = f1_score(targets, classes)
    for name, value in expected.items():
        assert summary[f"test_{name}"] == pytest.approx(value, abs=error, rel=1e-12), name
    [selected] = [column["name"] for column in summary["columns"] if column["selects"]]
    assert selected == {"cola": "mcc", "stsb": "pearson"}.get(task, "accuracy")
    assert [column["name"] for column in summary["columns"]] == [
        "loss",
        selected,
        *[n for n in expected if n != selected],
    ]


def test_a_network_learns_what_the_texts_say(tmp_path):
    """Whether a sentence has the word "so" in it."""
    words = words_for(tmp_path / "data", "sst2", train=160, dev=40)
    directory = train(tmp_path / "runs", *words, "optimizer.lr=0.003", "epochs=14", "method=horizon_sam")
    assert json.loads((directory / "summary.json").read_text())["test_accuracy"] > 0.9


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("method=lets_sam",), marks=pytest.mark.full),
        ("method=horizon_asam", "accumulate=2", "precision=bf16"),
    ],
)
def test_killed_and_gone_on_from_it_is_the_same_to_the_bit(tmp_path, words):
    """With dropout on, batches of several widths, and in the middle of an epoch."""
    settings = (*words_for(tmp_path / "data", "mrpc"), *words, "checkpoint.every_steps=3")
    whole = train(tmp_path / "whole", *settings)
    assert in_child(killed_after_step, tmp_path / "killed", 6, settings) == -9
    [last] = (tmp_path / "killed").rglob("last.pt")
    assert torch.load(last, weights_only=True)["step"] == 6
    assert state_of(train(tmp_path / "killed", *settings)) == state_of(whole)


@pytest.mark.parametrize(("method", "strategy"), grid([("sam", "ddp"), ("lets_sam", "fsdp")], []))
def test_processes_and_microbatches_train_as_one(tmp_path, method, strategy):
    """Scores too whose measure needs all examples; without dropout, of which each process has masks of its own."""
    words = [*words_for(tmp_path / "data", "stsb"), "model.architecture=deberta-v2", "model.dropout=0"]
    words += ["device=cpu", f"method={method}"]
    alone = one_process(tmp_path / "alone", *words)
    finish(launch(tmp_path / "both", *words, "accumulate=2", f"distributed.strategy={strategy}"))
    both = directory_of(tmp_path / "both")
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (alone, both)]
    assert summaries[1]["processes"] == 2
    for name in ("pearson", "spearman"):
        assert summaries[1][f"test_{name}"] == pytest.approx(summaries[0][f"test_{name}"], rel=1e-6), name
    for name, numbers in read_columns(alone / "steps.csv").items():
        assert read_columns(both / "steps.csv")[name] == pytest.approx(numbers, rel=1e-6, nan_ok=True), name


METHODS = ["erm", "sam", "asam", "lets_sam", "lets_asam", "horizon_sam", "gm_sam"]
VARIANTS = ["esam", "m_sam", "gsam", "looksam", "vasso", "ae_sam", "le_sam"]


@pytest.mark.parametrize("word", [*(f"method={m}" for m in METHODS), *(f"sam={v}" for v in VARIANTS)])
def test_every_method_trains_on_pairs_of_sentences(tmp_path, word):
    words = [*words_for(tmp_path / "data", "rte"), word, "precision=bf16", "grad_clip=1"]
    words += ["sam.m=4"] if word == "sam=m_sam" else ["radius=fixed"] if word == "sam=le_sam" else []
    summary = json.loads((train(tmp_path / "runs", *words) / "summary.json").read_text())
    assert (summary["status"], summary["step"], summary["skipped_steps"]) == ("finished", 8, 0)


def test_low_rank_matrices_alone_are_trained(tmp_path):
    words = words_for(tmp_path / "data", "rte")
    directory = train(tmp_path / "runs", *words, "model.lora={r: 2}", "epochs=1")
    state = torch.load(directory / "checkpoints" / "last.pt", weights_only=True)
    names = [name for name in state["model"] if "lora_" in name]
    assert len(names) == 2  # one layer's
    assert len(state["optimizer"]["inner"]["inner"]["state"]) == len(names) + 4  # and the pooler and the classifier


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=mlp"], "model: this model takes numbers, and an example is a text: take model=auto_text"),
        (
            ["data.task=stsb", "task=classification"],
            "task: Classification predicts classes, and the targets of GLUE are",
        ),
        (["data=digits"], "model: this model reads texts, and an example is of the shape (1, 8, 8): take data=glue"),
        (["data.task=mrpcc"], "data.task=mrpcc: must be one of cola, sst2"),
        (["data.root=nowhere"], "data.root=nowhere: has no RTE/train.tsv"),
        (["schedule.warmup=-9"], "schedule.warmup=-9: must be at least 0, in steps"),
        (["model.pretrained=nowhere/at/all"], "data.tokenizer=nowhere/at/all: cannot be read (nowhere/at/all is no"),
        (["data.task=stsb", "task.label_smoothing=0.1"], "task.label_smoothing=0.1: task=stsb has scores"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_refused_in_a_line(tmp_path, monkeypatch, capfd, words, message):
    given = words_for(tmp_path / "data", "rte")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    given = [word for word in given if word.split("=")[0] not in [w.split("=")[0] for w in words]]
    given = [word for word in given if not word.startswith("data.") or words != ["data=digits"]]
    assert lets_train(monkeypatch, *given, *words) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"lets-train: {message}") and err.count("\n") == 1, err
    assert list((tmp_path / "here").iterdir()) == []
