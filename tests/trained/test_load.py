"""`lets_runner.load`: a run's own test score again, from the run alone; and what it refuses."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from conftest import train, write_cifar10, write_csv, write_glue, write_imagenet
from PIL import Image
from sklearn.datasets import load_diabetes, load_digits

import lets_runner
from lets_runner.run.checkpoint import pack


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs"), "epochs=3", "method=lets_sam", "precision=fp32", "device=cpu")


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "seed=0")


def summary(directory):
    return json.loads((directory / "summary.json").read_text())


def digits():
    """scikit-learn's, in 255ths as images are, and their classes, in the order in which the data set splits them."""
    from lets_runner.data import Digits

    test = Digits().splits().test
    return test.images, test.labels


def test_the_last_checkpoint_has_the_runs_own_test_accuracy(run):
    images, labels = digits()
    trained = lets_runner.load(run, "last", device="cpu")
    right = (trained.predict(images).argmax(1) == labels).double().mean().item()
    assert right == summary(run)["test_accuracy"] > 0.5
    assert not trained.model.training and trained.device == torch.device("cpu")
    assert trained.class_names == tuple("0123456789")
    assert trained.step == 51 and trained.config["sam"]["rho"] == 0.05 and trained.summary == summary(run)


def test_the_best_checkpoint_has_the_best_epochs_weights(run):
    with open(run / "epochs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    best = max(rows, key=lambda row: float(row["val_accuracy"]))
    assert lets_runner.load(run).step == int(best["step"])


def test_an_image_may_come_as_people_have_it(run):
    trained = lets_runner.load(run, "last", device="cpu")
    images, _ = digits()
    expected = trained.predict(images[:2])
    arrays = images[:2, 0].numpy()
    for same in (
        list(images[:2]),
        [Image.fromarray(array) for array in arrays],
        list(arrays),
        images[:2].movedim(1, -1).numpy(),
    ):
        torch.testing.assert_close(trained.predict(same), expected)
    large = Image.fromarray(arrays[0].repeat(4, 0).repeat(4, 1))
    assert trained.predict(large).shape == (1, 10)
    for wrong in (images.float(), "a picture", images[:, 0, 0], images[:2].expand(2, 3, 8, 8)):
        with pytest.raises(ValueError, match=r"^images (are|have) .*"):
            trained.predict(wrong)


def test_the_average_of_the_weights_is_what_is_loaded(tmp_path):
    run = train(tmp_path, "ema.decay=0.9", "precision=fp32", "device=cpu")
    images, labels = digits()
    trained = lets_runner.load(run, "last", device="cpu")
    assert (trained.predict(images).argmax(1) == labels).double().mean().item() == summary(run)["test_accuracy"]
    plain = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]
    assert any(not torch.equal(plain[name], value) for name, value in trained.model.state_dict().items())


def test_images_from_files_are_cut_as_they_were_measured(tmp_path):
    root = write_imagenet(tmp_path / "images")
    words = ("data=imagenet", f"data.root={root}", "data.classes=3", "data.size=16", "data.workers=0", "model=convnet")
    run = train(tmp_path / "runs", *words, "batch_size=4", "precision=fp32", "device=cpu")
    files = sorted(root.glob("val/*/*.JPEG"))
    shutil.move(root, tmp_path / "elsewhere")
    files = [tmp_path / "elsewhere" / path.relative_to(root) for path in files]
    trained = lets_runner.load(run, "last", device="cpu")
    assert trained.class_names == ("n00", "n01", "n02")
    predicted = trained.predict([Image.open(path) for path in files]).argmax(1)
    right = np.mean([trained.class_names[i] == path.parent.name for i, path in zip(predicted, files, strict=True)])
    assert right == summary(run)["test_accuracy"]


def test_numbers_come_back_in_the_units_of_the_table(tmp_path):
    data = load_diabetes()
    table, header = np.column_stack([data.data, data.target]), ",".join([*data.feature_names, "progression"])
    paths = [
        write_csv(tmp_path / name, header, rows) for name, rows in (("a.csv", table[:-80]), ("b.csv", table[-80:]))
    ]
    words = ["data=table", f"data.path={paths[0]}", "data.target=progression", f"data.test_path={paths[1]}"]
    run = train(tmp_path / "runs", *words, "model=mlp", "task=regression", "epochs=8", "precision=fp32", "device=cpu")
    for path in paths:
        path.unlink()
    trained = lets_runner.load(run, "last", device="cpu")
    predicted = trained.predict(table[-80:, :-1]).double().numpy()[:, 0]
    target = table[-80:, -1]
    error = np.mean((predicted - target) ** 2) / trained.transform.target_std[0] ** 2
    assert error == pytest.approx(summary(run)["test_mse"], rel=1e-5)
    assert trained.class_names is None
    with pytest.raises(ValueError, match=r"rows are \(3,\), and the model takes \(10,\): age, sex, bmi"):
        trained.predict(np.zeros((2, 3)))


def test_texts_need_no_tokenizer_beside_the_run(tmp_path):
    root = write_glue(tmp_path / "data", "mrpc")
    little = ("model=auto_text", "model.depth=1", "model.width=16", "data.vocabulary_size=300", "data.max_length=16")
    words = ("data=glue", *little, "batch_size=8", "data.val_fraction=0.2", "data.task=mrpc", f"data.root={root}")
    run = train(tmp_path / "runs", *words, "precision=fp32", "device=cpu", "optimizer.lr=0.01")
    rows = (root / "MRPC" / "dev.tsv").read_text().splitlines()[1:]
    cells = [row.split("\t") for row in rows]
    shutil.rmtree(root)
    trained = lets_runner.load(run, "last", device="cpu")
    assert trained.class_names == ("0", "1")
    predicted = trained.predict([(row[3], row[4]) for row in cells]).argmax(1)
    right = np.mean([trained.class_names[i] == row[0] for i, row in zip(predicted, cells, strict=True)])
    assert right == pytest.approx(summary(run)["test_accuracy"], abs=1e-12)


def test_a_cifar_run_knows_its_classes(tmp_path):
    root = tmp_path / "data"
    write_cifar10(root)
    run = train(tmp_path / "runs", "data=cifar10", f"data.root={root}", "model=convnet", "epochs=1", "device=cpu")
    shutil.rmtree(root)
    trained = lets_runner.load(run, device="cpu")
    assert trained.class_names[3] == "cat" and trained.predict(np.zeros((32, 32, 3), np.uint8)).shape == (1, 10)


def nested(run):
    """What is left at its place holds runs, and is none."""
    shutil.move(run, run.with_name("run"))
    shutil.move(run.with_name("run"), run / "seed=0")


def damaged(run):
    path = run / "checkpoints" / "last.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def poisoned(run):
    state = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    del state["model"]["0.weight"]
    with open(run / "checkpoints" / "last.pt", "wb") as file:
        file.write(pack(state))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, "there is no such run directory"),
        (nested, "is no run directory; give one that"),
        (lambda run: (run / "config.yaml").unlink(), "has no config.yaml"),
        (lambda run: (run / "config.yaml").write_text("a: 1"), "config.yaml is none that lets-train has written"),
        (lambda run: (run / "inputs.json").write_text("{"), "inputs.json cannot be read"),
        (lambda run: (run / "inputs.json").write_text('{"kind": "x"}'), "inputs.json cannot be used: no transform"),
        (lambda run: shutil.rmtree(run / "checkpoints"), "there is no checkpoints/last.pt"),
        (damaged, "damaged: its checksum is another"),
        (poisoned, "the checkpoint last does not fit the model that config.yaml names"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_loaded_is_said_in_a_line(run, change, message):
    change(run)
    with pytest.raises(ValueError, match=message) as caught:
        lets_runner.load(run, "last")
    assert str(caught.value).startswith(f"{run}: ") and "\n" not in str(caught.value)


def test_a_checkpoint_has_a_name(run):
    with pytest.raises(ValueError, match="checkpoint='first': must be best or last"):
        lets_runner.load(run, "first")


def test_an_older_run_gets_its_transform_from_the_data_set(run):
    (run / "inputs.json").unlink()
    images, labels = digits()
    trained = lets_runner.load(run, "last", device="cpu")
    assert (trained.predict(images).argmax(1) == labels).double().mean().item() == summary(run)["test_accuracy"]


def test_digits_are_scikit_learns():
    images, labels = digits()
    data = load_digits()
    assert len(labels) == 539 and images.shape[1:] == (1, *data.images.shape[1:])
