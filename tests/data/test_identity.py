"""The identity of data: the same for the same examples, another for any others."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import lets_train, train, write_cifar10, write_imagenet

from lets_runner.data import Examples, ImageNet, Splits
from lets_runner.data.identity import identity
from lets_runner.run.directory import Run
from lets_runner.run.files import read_summary


def splits(seed=0, count=6):
    generator = torch.Generator().manual_seed(seed)
    parts = [
        Examples(
            torch.randint(0, 256, (n, 1, 2, 2), dtype=torch.uint8, generator=generator),
            torch.randint(0, 3, (n,), generator=generator),
        )
        for n in (count, 2, 3)
    ]
    return Splits(*parts)


def test_says_how_many_and_which():
    found = identity(splits())
    assert (found["train"], found["val"], found["test"]) == (6, 2, 3)
    assert found == identity(splits())
    assert found["fingerprint"] != identity(splits(seed=1))["fingerprint"]


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("column", [0, 1])
def test_one_other_number_is_another_identity(part, column):
    ours, theirs = splits(), splits()
    tensor = list(vars(getattr(theirs, part)).values())[column]
    tensor.view(-1)[0] += 1
    assert identity(ours) != identity(theirs)


def test_the_order_and_the_parts_count():
    one = splits()
    assert identity(one) != identity(Splits(one.train[torch.arange(5, -1, -1)], one.val, one.test))
    assert identity(one) != identity(Splits(one.train, one.test, one.val))


def test_vectors_and_half_precision_have_one_too():
    @dataclass
    class Rows:
        inputs: np.ndarray
        targets: torch.Tensor

        def __len__(self):
            return len(self.inputs)

    def rows(value):
        return Splits(*(Rows(np.full((2, 3), value), torch.ones(2, dtype=torch.bfloat16)) for _ in range(3)))

    assert identity(rows(1.0)) == identity(rows(1.0)) != identity(rows(2.0))


def test_files_are_known_by_names_and_sizes(tmp_path):
    def found():
        return identity(ImageNet(root=str(root), classes=3, size=16, val_fraction=0.25).splits())

    root = write_imagenet(tmp_path / "images")
    before = found()
    assert before == found()
    assert (before["train"], before["val"], before["test"]) == (18, 6, 12)
    image = root / "train" / "n01" / "train_3.JPEG"
    content = image.read_bytes()
    image.write_bytes(content + b"\0")
    assert found()["sizes"] != before["sizes"]
    assert found()["fingerprint"] == before["fingerprint"]
    image.write_bytes(content)
    assert found() == before
    image.rename(image.with_name("train_9.JPEG"))
    assert found()["fingerprint"] != before["fingerprint"]
    (root.parent / "moved").mkdir()
    image.with_name("train_9.JPEG").rename(image)
    root.rename(root.parent / "moved" / "images")
    root = root.parent / "moved" / "images"
    assert found() == before


CIFAR = ["data=cifar10", "model=mlp", "model.width=4", "epochs=2", "batch_size=32", "progress=false"]


def stopped(monkeypatch, output, *words):
    """A run that has ended after its first checkpoint, by an exception."""
    real = Run.save

    def save(self, state, **options):
        real(self, state, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", save)
        with pytest.raises(KeyboardInterrupt):
            train(output, *words)


def test_a_run_does_not_go_on_with_other_data(tmp_path, monkeypatch, capfd):
    folder = write_cifar10(tmp_path / "data")
    words = [*CIFAR, f"data.root={tmp_path / 'data'}"]
    stopped(monkeypatch, tmp_path / "runs", *words)
    [directory] = (path.parent for path in tmp_path.rglob("summary.json"))
    assert read_summary(directory)["data_identity"]["train"] == 180
    files = {path: path.read_bytes() for path in directory.rglob("*.pt")} | {
        path: path.read_bytes() for path in directory.rglob("*.csv")
    }
    content = (folder / "data_batch_3.bin").read_bytes()
    (folder / "data_batch_3.bin").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert lets_train(monkeypatch, *words, f"output={tmp_path / 'runs'}") == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("lets-train: data: ")
    assert "other data" in err and "180 training" in err
    assert {path: path.read_bytes() for path in files} == files
    (folder / "data_batch_3.bin").write_bytes(content)
    assert lets_train(monkeypatch, *words, f"output={tmp_path / 'runs'}") == 0
    assert "test accuracy" in capfd.readouterr().out


def test_before_the_first_checkpoint_data_may_change(tmp_path, monkeypatch):
    folder = write_cifar10(tmp_path / "data")
    words = [*CIFAR, f"data.root={tmp_path / 'data'}", f"output={tmp_path / 'runs'}"]
    with monkeypatch.context() as patch:
        patch.setattr(Run, "append", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(tmp_path / "runs", *words)
    content = (folder / "data_batch_3.bin").read_bytes()
    (folder / "data_batch_3.bin").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert lets_train(monkeypatch, *words) == 0


def test_a_run_of_before_goes_on(tmp_path, monkeypatch):
    write_cifar10(tmp_path / "data")
    words = [*CIFAR, f"data.root={tmp_path / 'data'}"]
    stopped(monkeypatch, tmp_path / "runs", *words)
    [path] = tmp_path.rglob("summary.json")
    path.write_text('{"status": "running"}')
    train(tmp_path / "runs", *words)
    assert read_summary(path.parent)["status"] == "finished"
