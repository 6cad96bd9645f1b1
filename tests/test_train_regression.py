"""Tasks, measures and data beside image classification, through the command line and from folders of a user's own."""

import csv
import json
import sys

import numpy as np
import pytest
import torch
from conftest import lets_train, write_csv
from scipy.stats import pearsonr, spearmanr
from sklearn.datasets import load_diabetes, load_iris
from sklearn.metrics import mean_squared_error, r2_score

from lets_runner.models import MLP

QUIET = ("progress=false", "epochs=8")


@pytest.fixture
def diabetes(tmp_path):
    """scikit-learn's 442 patients, the last 80 as the test set; words of the command line."""
    data = load_diabetes()
    table, header = np.column_stack([data.data, data.target]), ",".join([*data.feature_names, "progression"])
    train = write_csv(tmp_path / "train.csv", header, table[:-80])
    test = write_csv(tmp_path / "test.csv", header, table[-80:])
    words = ["data=table", f"data.path={train}", "data.target=progression", f"data.test_path={test}", "model=mlp"]
    return [*words, "task=regression", *QUIET], table


def only(tmp_path, name):
    [path] = tmp_path.rglob(name)
    return path


def epochs(tmp_path):
    with open(only(tmp_path, "epochs.csv"), newline="") as file:
        return list(csv.DictReader(file))


def trained(tmp_path, name, outputs):
    model = MLP((10,), outputs)
    state = torch.load(only(tmp_path, name), weights_only=True)
    model.load_state_dict(state["model"])
    return model.eval(), state


def standardised(table, part):
    """By the definition: of the first 362 rows 36 are for validation; the test set is scaled as the rest is."""
    order = np.random.default_rng(0).permutation(362)
    rest = np.sort(order[36:])
    scaled = (table - table[rest].mean(0)) / table[rest].std(0)
    return {"val": scaled[np.sort(order[:36])], "test": scaled[362:]}[part]


@pytest.mark.parametrize("method", ["lets_sam", "horizon_sam"])
def test_a_regression_trains_and_its_numbers_are_scikit_learns(tmp_path, monkeypatch, capfd, diabetes, method):
    words, table = diabetes
    monkeypatch.chdir(tmp_path)
    assert lets_train(monkeypatch, *words, f"method={method}") == 0
    out = capfd.readouterr().out
    summary = json.loads(only(tmp_path, "summary.json").read_text())
    model, _ = trained(tmp_path, "last.pt", 1)
    test = standardised(table, "test")
    with torch.no_grad():
        predicted = model(torch.tensor(test[:, :10]).float())[:, 0].double().numpy()
    assert summary["test_mse"] == pytest.approx(mean_squared_error(test[:, 10], predicted), rel=1e-4)
    assert summary["test_r2"] == pytest.approx(r2_score(test[:, 10], predicted), rel=1e-4)
    assert 0.3 < summary["test_mse"] < 0.9
    assert out.startswith(f"test mse {summary['test_mse']:.4g} (validation ")
    rows = epochs(tmp_path)
    assert list(rows[0])[3:9] == ["train_loss", "train_mse", "train_r2", "val_loss", "val_mse", "val_r2"]
    best = min(rows, key=lambda row: float(row["val_mse"]))
    model, state = trained(tmp_path, "best.pt", 1)
    assert state["step"] == int(best["step"])
    val = standardised(table, "val")
    with torch.no_grad():
        predicted = model(torch.tensor(val[:, :10]).float())[:, 0].double().numpy()
    assert float(best["val_mse"]) == pytest.approx(mean_squared_error(val[:, 10], predicted), rel=1e-4)


MEASURES = "+task.measures=[{_target_: lets_runner.measures.%s},{_target_: lets_runner.measures.%s}]"


@pytest.mark.parametrize("val_fraction", [0, 0.1])
def test_correlations_of_a_regression_are_scipys(tmp_path, monkeypatch, diabetes, val_fraction):
    words, table = diabetes
    monkeypatch.chdir(tmp_path)
    chosen = [MEASURES % ("Pearson", "Spearman"), "+task.selects=spearman"]
    words = [*words, *chosen, f"data.val_fraction={val_fraction}", "method=erm", "data.standardise_inputs=false"]
    assert lets_train(monkeypatch, *words) == 0
    summary = json.loads(only(tmp_path, "summary.json").read_text())
    model, _ = trained(tmp_path, "last.pt", 1)
    with torch.no_grad():
        predicted = model(torch.tensor(table[-80:, :10]).float())[:, 0].numpy()
    assert summary["test_pearson"] == pytest.approx(pearsonr(predicted, table[-80:, 10]).statistic, rel=1e-5)
    assert summary["test_spearman"] == pytest.approx(spearmanr(predicted, table[-80:, 10]).statistic, rel=1e-12)
    rows = epochs(tmp_path)
    assert list(rows[0])[3:8] == ["train_loss", "train_pearson", "val_loss", "val_pearson", "val_spearman"]
    assert all(bool(row["val_spearman"]) == (val_fraction > 0) for row in rows)


def test_the_best_epoch_of_a_regression_is_not_always_the_last(tmp_path, monkeypatch, diabetes):
    words, _ = diabetes
    monkeypatch.chdir(tmp_path)
    assert lets_train(monkeypatch, *words, "method=erm", "epochs=30", "optimizer.weight_decay=0") == 0
    rows = epochs(tmp_path)
    best = min(rows, key=lambda row: float(row["val_mse"]))
    assert best is not rows[-1]  # it overfits
    assert trained(tmp_path, "best.pt", 1)[1]["step"] == int(best["step"])


def test_several_numbers_are_predicted_at_once(tmp_path, monkeypatch, diabetes):
    words, _ = diabetes
    monkeypatch.chdir(tmp_path)
    assert lets_train(monkeypatch, *words, "data.target=[progression,bmi]", "epochs=1") == 0
    state = torch.load(only(tmp_path, "last.pt"), weights_only=True)["model"]
    weights = [tensor for name, tensor in state.items() if name.endswith("weight")]
    assert (weights[0].shape[1], weights[-1].shape[0]) == (9, 2)


def test_a_labelled_table_trains(tmp_path, monkeypatch, capfd):
    iris = load_iris()
    np.savez(tmp_path / "iris.npz", inputs=iris.data, targets=iris.target)
    monkeypatch.chdir(tmp_path)
    words = ["data=labelled_table", "data.path=iris.npz", "model=mlp", "data.val_fraction=0.2", "progress=false"]
    assert lets_train(monkeypatch, *words, "epochs=30") == 0
    assert float(capfd.readouterr().out.split("%")[0].removeprefix("test accuracy ")) > 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["task=classification"],
            "task: Classification predicts classes, and the targets of Table are numbers; take task",
        ),
        (["model=resnet18"], "model: this model takes images, and an example is of the shape (10,): take model=mlp"),
        (["data.target=null"], "data.target=null: must name the column to predict, or several: age, sex, bmi"),
        (["data.path=/nowhere.csv"], "data.path=/nowhere.csv: there is no such file"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_parts_that_do_not_fit_are_refused_in_a_line(tmp_path, monkeypatch, capfd, diabetes, words, message):
    given, _ = diabetes
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert lets_train(monkeypatch, *given, *words) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert message in err
    assert list((tmp_path / "here").iterdir()) == []


def test_a_measure_of_two_classes_needs_two(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert lets_train(monkeypatch, MEASURES % ("Accuracy", "F1"), *QUIET) == 2
    message = "lets-train: task.measures: F1 is made for 2 classes, and Digits has 10; leave it out"
    assert capfd.readouterr().err.startswith(message)


def test_classes_are_no_numbers_to_predict(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert lets_train(monkeypatch, "task=regression") == 2
    message = "lets-train: task: Regression predicts numbers, and the targets of Digits are classes; take task=classif"
    assert capfd.readouterr().err.startswith(message)


TOP_TWO = """
from lets_runner.columns import Column
from lets_runner.measures import Measure


class TopTwo(Measure):
    columns = (Column("top2_accuracy", "%", when=("val", "test")),)
    sums = ("among_two",)

    def add(self, outputs, targets):
        return {"among_two": (outputs.topk(2, 1).indices == targets[:, None]).sum()}

    def scores(self, sums, count):
        return {"top2_accuracy": sums["among_two"] / count}
"""


def test_a_measure_from_outside_gets_its_columns(tmp_path, monkeypatch):
    (tmp_path / "twobest.py").write_text(TOP_TWO)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    measures = "+task.measures=[{_target_: lets_runner.measures.Accuracy},{_target_: twobest.TopTwo}]"
    assert lets_train(monkeypatch, measures, "epochs=2", "progress=false", "method=erm") == 0
    rows = epochs(tmp_path)
    names = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_top2_accuracy"]
    assert [name for name in rows[0] if name.startswith(("train", "val"))] == names
    for row in rows:
        assert 0 < float(row["val_accuracy"]) < float(row["val_top2_accuracy"]) <= 1
    summary = json.loads(only(tmp_path, "summary.json").read_text())
    assert summary["test_accuracy"] < summary["test_top2_accuracy"] <= 1


# The squared error to one-hot classes: a task that the runner has never heard of, on a data set of classes.
BRIER = """
import torch
from torch.nn import functional

from lets_runner.measures import Accuracy, SquaredError
from lets_runner.tasks import Output, Task
from lets_runner.tasks.task import split_rows


class Brier(Task):
    def __init__(self, *, factor):
        super().__init__([SquaredError()], selects="mse")
        self.factor = factor

    def loss(self, model, batch, *, per_sample=False):
        inputs, labels = batch
        outputs = model(inputs).softmax(1)
        targets = functional.one_hot(labels, outputs.shape[1]).to(outputs.dtype)
        losses = self.factor * (outputs - targets).square().mean(1)
        return Output(losses if per_sample else losses.mean(), len(labels), self.added(outputs, targets))

    def measure(self, model, batch):
        return self.loss(model, batch)

    def split(self, batch, parts):
        return split_rows(batch, parts)
"""


def test_a_task_from_outside_chooses_and_is_named(tmp_path, monkeypatch, capfd):
    (tmp_path / "mytask.py").write_text(BRIER)
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "brier.yaml").write_text("_target_: mytask.Brier\nfactor: 10.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = ["--config-dir", "conf", "task=brier", "epochs=3", "progress=false", "accumulate=2"]
    assert lets_train(monkeypatch, *words) == 0
    summary = json.loads(only(tmp_path, "summary.json").read_text())
    assert capfd.readouterr().out.startswith(f"test mse {summary['test_mse']:.4g} (validation ")
    rows = epochs(tmp_path)
    for row in rows:  # the loss is ten times the error that is measured
        assert float(row["val_loss"]) == pytest.approx(10 * float(row["val_mse"]), rel=1e-5)
    best = min(rows, key=lambda row: float(row["val_mse"]))
    assert best is rows[-1]  # it learns: not the first, where a larger number would have been better
    assert torch.load(only(tmp_path, "best.pt"), weights_only=True)["step"] == int(best["step"])
    assert "mytask" in sys.modules
