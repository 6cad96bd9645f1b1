"""`lets-eval`: a run's own numbers again, other data, spoiled images, and its record."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from conftest import train, write_cifar10, write_csv, write_glue, write_imagenet
from corpus import write_corpus
from sklearn.metrics import log_loss

import lets_runner
from lets_runner.data import Digits, Table
from lets_runner.evaluate import command
from lets_runner.report.command import main as lets_report

HEADER = "checkpoint,data,corruption,severity,step,weights,examples,identity,loss,accuracy,nll,brier,ece"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    words = ("epochs=3", "method=lets_sam", "data.label_noise=0.2", "precision=fp32", "device=cpu")
    return train(tmp_path_factory.mktemp("runs"), *words)


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "runs" / "seed=0")


@pytest.fixture
def lets_eval(monkeypatch, capfd):
    def call(*arguments):
        monkeypatch.setattr("warnings.showwarning", None)
        monkeypatch.setattr(sys, "argv", ["lets-eval", *map(str, arguments), "--device=cpu"])
        code = 0
        try:
            command.main()
        except SystemExit as stop:
            code = stop.code
        return (code or 0, *capfd.readouterr())

    return call


def rows(run):
    with open(run / "evaluation.csv", newline="") as file:
        return list(csv.DictReader(file))


def epochs(run):
    with open(run / "epochs.csv", newline="") as file:
        return list(csv.DictReader(file))


def write_fog(folder, seed=0, shape=(32, 32, 3)):
    """One corruption of ten images, as CIFAR-10-C is published."""
    folder.mkdir(parents=True)
    images = np.random.default_rng(seed).integers(0, 256, (50, *shape), dtype=np.uint8)
    labels = np.tile(np.arange(10), 5)
    np.save(folder / "fog.npy", images)
    np.save(folder / "labels.npy", labels)
    return folder, images, labels


def test_the_runs_own_numbers_come_out_again(run, lets_eval):
    summary = json.loads((run / "summary.json").read_text())
    for split in ("test", "val"):
        code, _, err = lets_eval(run, "--split", split)
        assert (code, err) == (0, ""), err
    assert (run / "evaluation.csv").read_text().splitlines()[0] == HEADER
    test, val = rows(run)
    assert float(test["accuracy"]) == pytest.approx(summary["test_accuracy"], abs=1e-9)
    assert float(test["loss"]) == pytest.approx(summary["test_loss"], rel=1e-8)
    assert float(val["accuracy"]) == pytest.approx(float(epochs(run)[-1]["val_accuracy"]), abs=1e-9)
    assert (test["examples"], test["data"], val["data"], test["step"]) == ("539", "test", "val", "51")
    examples = Digits(label_noise=0.2).splits().test
    scores = lets_runner.load(run, "last", device="cpu").predict(examples.images).double().softmax(1)
    assert float(test["nll"]) == pytest.approx(log_loss(examples.labels, scores), rel=1e-5)


def test_every_weights_best_or_last_has_rows_of_its_own(run, lets_eval):
    lets_eval(run)
    lets_eval(run, "--checkpoint", "best")
    assert [(row["checkpoint"], row["data"]) for row in rows(run)] == [("last", "test"), ("best", "test")]
    best = max(epochs(run), key=lambda row: float(row["val_accuracy"]))
    assert rows(run)[1]["step"] == best["step"]


def test_what_was_measured_is_not_measured_again_unless_the_weights_are_others(run, lets_eval):
    lets_eval(run)
    content = (run / "evaluation.csv").read_text()
    assert "test: measured before" in lets_eval(run)[1]
    assert (run / "evaluation.csv").read_text() == content
    (run / "evaluation.csv").write_text(content.replace(rows(run)[0]["weights"], "0" * 16))
    assert "measured before" not in lets_eval(run)[1]
    assert (run / "evaluation.csv").read_text() == content


def test_settings_of_the_data_may_be_others(run, lets_eval):
    lets_eval(run, "--split", "val", "data.label_noise=0")
    lets_eval(run, "data.val_fraction=0.3", "--split", "val")
    clean, larger = rows(run)
    assert clean["data"] == "val data.label_noise=0" and larger["examples"] == "378"
    assert float(clean["accuracy"]) > float(epochs(run)[-1]["val_accuracy"]) + 0.1


def test_corruptions_harm_the_more_the_stronger_they_are(run, lets_eval):
    code, out, err = lets_eval(run, "--corruptions", "contrast", "gaussian_noise", "--severities", "1", "5")
    assert (code, err) == (0, "")
    found = {(row["corruption"], row["severity"]): float(row["accuracy"]) for row in rows(run)}
    assert list(found) == [
        ("", ""),
        ("contrast", "1"),
        ("contrast", "5"),
        ("gaussian_noise", "1"),
        ("gaussian_noise", "5"),
    ]
    assert found["", ""] >= found["gaussian_noise", "1"] > found["gaussian_noise", "5"]
    assert "test gaussian_noise 5: loss" in out


def test_the_published_corruptions_are_read_from_their_folder(tmp_path, lets_eval):
    root = tmp_path / "data"
    write_cifar10(root)
    words = ("data=cifar10", f"data.root={root}", "model=convnet", "precision=fp32", "device=cpu", "batch_size=16")
    run = train(tmp_path / "runs", *words)
    folder, images, labels = write_fog(tmp_path / "CIFAR-10-C")
    assert lets_eval(run, "--corrupted", folder, "--severities", "2")[0] == 0
    plain, fog = rows(run)
    assert (fog["data"], fog["corruption"], fog["severity"], fog["examples"]) == ("CIFAR-10-C", "fog", "2", "10")
    predicted = lets_runner.load(run, "last", device="cpu").predict(images[10:20]).argmax(1).numpy()
    assert float(fog["accuracy"]) == pytest.approx((predicted == labels[10:20]).mean())
    assert plain["examples"] == "40"
    other, *_ = write_fog(tmp_path / "elsewhere" / "CIFAR-10-C", seed=1)
    assert "CIFAR-10-C fog 2: measured before" in lets_eval(run, "--corrupted", folder, "--severities", "2")[1]
    assert "CIFAR-10-C fog 2: loss" in lets_eval(run, "--corrupted", other, "--severities", "2")[1]
    assert len(rows(run)) == 2 and rows(run)[1]["loss"] != fog["loss"]


def test_corrupted_images_of_another_form_are_refused(run, tmp_path, lets_eval):
    folder, *_ = write_fog(tmp_path / "CIFAR-10-C")
    code, _, err = lets_eval(run, "--corrupted", folder)
    assert code == 2 and err.count("\n") == 1
    assert "fog.npy: is uint8 (50, 32, 32, 3); must be uint8 (50, 8, 8, 1) for this model" in err


def test_images_in_files_are_spoiled_by_those_who_read_them(tmp_path, lets_eval):
    root = write_imagenet(tmp_path / "images")
    words = ("data=imagenet", f"data.root={root}", "data.classes=3", "data.size=32", "data.workers=1", "model=convnet")
    run = train(tmp_path / "runs", *words, "batch_size=4", "epochs=1", "precision=fp32", "device=cpu")
    code, _, err = lets_eval(run, "--corruptions", "brightness", "--severities", "5")
    assert (code, err) == (0, "")
    plain, bright = rows(run)
    assert plain["examples"] == bright["examples"] == "12" and plain["loss"] != bright["loss"]


def test_a_regression_is_measured_too_and_knows_no_calibration(tmp_path, lets_eval):
    table = np.random.default_rng(0).normal(size=(60, 4))
    paths = [write_csv(tmp_path / f"{name}.csv", "a,b,c,y", table + place) for place, name in enumerate("ab")]
    words = [f"data.path={paths[0]}", "data.target=y", f"data.test_path={paths[1]}", "task=regression"]
    run = train(tmp_path / "runs", "data=table", *words, "model=mlp", "batch_size=8", "precision=fp32", "device=cpu")
    assert lets_eval(run)[0] == 0 and lets_eval(run, f"data.test_path={paths[0]}")[0] == 0
    own, other = rows(run)
    summary = json.loads((run / "summary.json").read_text())
    assert float(own["mse"]) == pytest.approx(summary["test_mse"], rel=1e-8) and "ece" not in own
    assert float(other["mse"]) != float(own["mse"])
    write_csv(paths[0], "a,b,c,y", table + 2)
    assert "measured before" not in lets_eval(run, f"data.test_path={paths[0]}")[1]
    assert lets_eval(run, "--corruptions", "fog")[2].endswith("are made of images, and these data have none\n")


def test_another_table_is_scaled_as_the_model_is_used_to(tmp_path, lets_eval):
    table = np.random.default_rng(0).normal(size=(60, 4))
    own, other = [write_csv(tmp_path / f"{s}.csv", "a,b,c,y", s * table + s) for s in (1, 3)]
    words = ("data=table", f"data.path={own}", "data.target=y", "task=regression", "model=mlp", "batch_size=8")
    run = train(tmp_path / "runs", *words, "precision=fp32", "device=cpu")
    assert lets_eval(run, f"data.path={other}", "data.test_fraction=0.5")[::2] == (0, "")
    [row] = rows(run)
    read = Table(str(other), target="y", test_fraction=0.5, standardise_inputs=False, standardise_targets=False)
    raw, trained = read.splits().test, lets_runner.load(run, "last", device="cpu")
    error = (trained.predict(raw.inputs) - raw.targets) / trained.transform.target_std[0]
    assert float(row["mse"]) == pytest.approx(error.square().mean().item(), rel=1e-4)


def test_other_texts_are_cut_into_the_tokens_that_the_model_knows(tmp_path, lets_eval):
    own, other = [write_glue(tmp_path / name, "rte", seed=seed) for seed, name in enumerate("ab")]
    texts = other / "RTE" / "train.tsv"
    texts.write_text(texts.read_text().replace("so", "quite"))  # of which another tokenizer would be learned
    words = ("model=auto_text", "model.depth=1", "model.width=16", "data.vocabulary_size=300", "data.max_length=32")
    words = ("data=glue", "data.task=rte", "data.val_fraction=0.2", "batch_size=8", f"data.root={own}", *words)
    learning = ("optimizer=adam", "optimizer.lr=0.005", "method=erm", "epochs=8")  # enough to tell tokens apart
    run = train(tmp_path / "runs", *words, *learning, "precision=fp32", "device=cpu")
    assert lets_eval(run, f"data.root={other}")[::2] == (0, "")
    _, *cells = [line.split("\t") for line in (other / "RTE" / "dev.tsv").read_text().splitlines()]
    trained = lets_runner.load(run, "last", device="cpu")
    shares = trained.predict([(cell[1], cell[2]) for cell in cells]).double().softmax(1)
    true = [trained.class_names.index(cell[3]) for cell in cells]
    assert float(rows(run)[0]["nll"]) == pytest.approx(log_loss(true, shares, labels=[0, 1]), rel=2e-6)


def test_what_is_measured_of_the_test_set_alone_is_empty_of_others(tmp_path, lets_eval):
    root = write_corpus(tmp_path / "text", train=80)
    words = ("data=iwslt14", f"data.root={root}", "data.merges=40", "data.max_tokens=200", "batch_size=24")
    words += ("task=translation", "task.beam=2", "model=transformer_iwslt", "model.layers=1", "model.width=16")
    run = train(tmp_path / "runs", *words, "model.hidden=32", "model.heads=2", "precision=fp32", "device=cpu")
    assert lets_eval(run)[::2] == (0, "") and lets_eval(run, "--split", "val")[::2] == (0, "")
    test, val = rows(run)
    summary = json.loads((run / "summary.json").read_text())
    assert float(test["bleu"]) == pytest.approx(summary["test_bleu"]) and val["bleu"] == ""
    assert float(val["loss"]) == pytest.approx(summary["val_loss"], rel=1e-8)
    lets_report([str(tmp_path / "runs"), "--out", str(tmp_path / "report")])
    assert "## Robustness and calibration" in (tmp_path / "report" / "table.md").read_text()


def test_another_seed_of_the_corruptions_is_another_row(run, lets_eval):
    for seed in (0, 1, 1):
        lets_eval(run, "--corruptions", "gaussian_noise", "--severities", "5", "--seed", seed)
    assert [(row["data"], row["corruption"]) for row in rows(run)] == [
        *(("test", name) for name in ("", "gaussian_noise")),
        *(("test --seed 1", name) for name in ("", "gaussian_noise")),
    ]
    assert rows(run)[1]["loss"] != rows(run)[3]["loss"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nope"], "nope: no run directory here or below"),
        (["data.label_noise=0"], "the following arguments are required: RUN"),
        (
            ["RUN", "data.lable_noise=0"],
            "data.lable_noise=0: there is no key data.lable_noise; did you mean data.label_noise?",
        ),
        (["RUN", "data.label_noise=2"], "data.label_noise=2: must lie in [0, 1]"),
        (["RUN", "data=cifar9"], "data=cifar9: there is no such data; choose one of cifar10, "),
        (["RUN", "data=iwslt14", "data.root=/nowhere"], "data"),
        (["RUN", "--split", "val", "data.val_fraction=0"], "--split val: this run has none (data.val_fraction=0)"),
        (["RUN", "--corruptions", "smog"], "--corruptions smog: must be all, or of "),
        (["RUN", "--severities", "6"], "argument --severities: 6: must be a whole number from 1 to 5"),
        (["RUN", "--corrupted", "/nowhere"], "/nowhere/labels.npy: there is no such file"),
        (["RUN", "seed=1"], "seed=1: of a run that is done, only its data can be changed: data.KEY=VALUE"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(run, lets_eval, words, message):
    code, _, err = lets_eval(*[run if word == "RUN" else word for word in words])
    assert code == 2 and message in err and err.count("\n") == 1


def test_a_record_of_somebody_else_stays_as_it_is(run, lets_eval):
    (run / "evaluation.csv").write_text("a,b\n1,2\n")
    code, _, err = lets_eval(run)
    assert code == 2 and "evaluation.csv has other columns than checkpoint, data, " in err and err.count("\n") == 1
    assert (run / "evaluation.csv").read_text() == "a,b\n1,2\n"


def test_the_report_shows_means_over_seeds_and_sets(finished, tmp_path, lets_eval, capfd):
    words = ("epochs=3", "method=lets_sam", "data.label_noise=0.2", "precision=fp32", "device=cpu")
    second = train(tmp_path / "runs", *words, "seed=1")
    first = shutil.copytree(finished, second.parent / "seed=0")
    assert lets_eval(first, second, "--corruptions", "contrast", "fog", "--severities", "3")[0] == 0
    lets_report([str(tmp_path / "runs"), "--out", str(tmp_path / "report")])
    text = (tmp_path / "report" / "table.md").read_text()
    line = next(line for line in text[text.index("## Robustness") :].splitlines() if "LETS" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    found = [[100 * float(row["accuracy"]) for row in rows(run)] for run in (first, second)]
    clean, spoiled = [values[0] for values in found], [np.mean(values[1:]) for values in found]
    assert cells[4:6] == ["test", "2"]
    assert cells[6] == f"{np.mean(clean):.2f} ± {np.std(clean, ddof=1):.2f}"
    assert cells[10:12] == ["2 (2 sets)", f"{np.mean(spoiled):.2f} ± {np.std(spoiled, ddof=1):.2f}"]
    with open(tmp_path / "report" / "robustness.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["corruption"], row["severity"]) for row in table] == [("", ""), ("contrast", "3"), ("fog", "3")]
    assert float(table[1]["accuracy_mean"]) == pytest.approx(np.mean([v[1] for v in found]) / 100, rel=1e-6)


def test_the_report_has_no_row_of_what_was_not_measured(run, tmp_path, lets_eval):
    folder, *_ = write_fog(tmp_path / "fogs", shape=(8, 8, 1))
    assert lets_eval(run, "--corrupted", folder, "--severities", "4")[0] == 0
    lets_report([str(run), "--out", str(tmp_path / "report")])
    with open(tmp_path / "report" / "robustness.csv", newline="") as file:
        table = [(row["measured_on"], row["corruption"], row["accuracy_mean"]) for row in csv.DictReader(file)]
    plain, fog = (f"{float(row['accuracy']):.9g}" for row in rows(run))
    assert table == [("test", "", plain), ("fogs", "fog", fog)]


def test_the_model_measures_as_it_did_in_training(tmp_path, lets_eval):
    """In the precision of the run."""
    run = train(tmp_path / "runs", "epochs=2", "precision=bf16", "device=cpu")
    lets_eval(run)
    assert float(rows(run)[0]["loss"]) == pytest.approx(
        json.loads((run / "summary.json").read_text())["test_loss"], rel=1e-8
    )
    assert torch.get_default_dtype() == torch.float32
