"""CIFAR's files: the binary version, torchvision's, a download, and what is refused."""

import hashlib
import pickle
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_cifar10, write_cifar100

from lets_runner.data import CIFAR10, CIFAR100


def test_reads_every_record_of_the_binary_version(tmp_path):
    folder = write_cifar10(tmp_path, records=30)
    train, test = CIFAR10(tmp_path).read()
    assert (len(train), len(test)) == (150, 30)
    raw = (folder / "data_batch_2.bin").read_bytes()
    record = raw[7 * 3073 : 8 * 3073]
    assert train.labels[37] == record[0]
    assert train.images[37, 2, 5, 9] == record[1 + 2 * 1024 + 5 * 32 + 9]
    assert train.images.dtype == torch.uint8
    assert train.images.shape == (150, 3, 32, 32)


def test_cifar100_takes_the_fine_label(tmp_path):
    folder = write_cifar100(tmp_path)
    train, _ = CIFAR100(tmp_path).read()
    record = (folder / "train.bin").read_bytes()[123 * 3074 : 124 * 3074]
    assert train.labels[123] == record[1] == 23
    assert train.images[123, 0, 0, 3] == record[2 + 3]


@pytest.mark.parametrize("size", [3072, 5 * 3073 - 1, 0])
def test_a_file_cut_short_is_refused_by_name(tmp_path, size):
    folder = write_cifar10(tmp_path)
    (folder / "data_batch_4.bin").write_bytes(b"\0" * size)
    with pytest.raises(ValueError, match=r"data_batch_4\.bin has \d+ bytes"):
        CIFAR10(tmp_path).read()


def test_a_file_of_another_data_set_and_a_missing_one_are_refused_by_name(tmp_path):
    folder = write_cifar10(tmp_path)
    (folder / "data_batch_1.bin").write_bytes(b"\x0b" + b"\0" * 3072)
    with pytest.raises(ValueError, match=r"data_batch_1\.bin holds class 11"):
        CIFAR10(tmp_path).read()
    (folder / "data_batch_1.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_1\.bin is missing"):
        CIFAR10(tmp_path).read()


def test_without_data_and_download_says_what_to_do_and_makes_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"put cifar-10-batches-bin from https://\S+ into"):
        CIFAR10(tmp_path / "nowhere", download=False).read()
    assert not (tmp_path / "nowhere").exists()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """An archive on this machine's loopback in place of the official one; its md5."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    write_cifar10(tmp_path / "made")
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.add(tmp_path / "made" / "cifar-10-batches-bin", "cifar-10-batches-bin")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{path.name}")
        yield hashlib.md5(path.read_bytes()).hexdigest()
        server.shutdown()


def test_downloads_unpacks_and_leaves_only_the_folder(served, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(CIFAR10, "md5", served)
    train, _ = CIFAR10(tmp_path / "new" / "root").read()
    assert len(train) == 200
    assert [path.name for path in (tmp_path / "new" / "root").iterdir()] == ["cifar-10-batches-bin"]
    assert "100%" in capfd.readouterr().err


def test_of_two_downloads_at_a_time_the_first_to_end_stays(served, tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "md5", served)

    def download(self):
        write_cifar10(tmp_path / "root")  # the other one, meanwhile
        return real(self)

    real = CIFAR10._download
    monkeypatch.setattr(CIFAR10, "_download", download)
    train, _ = CIFAR10(tmp_path / "root").read()
    assert len(train) == 200
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["cifar-10-batches-bin"]


def test_a_download_with_another_checksum_is_refused(served, tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "md5", "0" * 32)
    with pytest.raises(FileNotFoundError, match="download failed"):
        CIFAR10(tmp_path / "root").read()
    assert not (tmp_path / "root").exists()


def test_an_archive_that_is_not_there_says_so(served, tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", CIFAR10.url + ".gone")
    with pytest.raises(FileNotFoundError, match=r"404.*put cifar-10-batches-bin"):
        CIFAR10(tmp_path / "root").read()
    assert not (tmp_path / "root").exists()


def test_official_checksums():
    assert CIFAR10.md5 == "c32a1d4ab5d03f1284b67883e8d87530"
    assert CIFAR100.md5 == "03b5dce01913d631647c71ecec9e9cb8"


def python_version(root: Path, payload) -> list:
    """Files in the layout of torchvision's version; returns names and checksums."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    entries = []
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
        content = pickle.dumps(payload(name))
        (folder / name).write_bytes(content)
        entries.append([name, hashlib.md5(content).hexdigest()])
    return entries


def test_reads_torchvisions_files_where_those_are_there(tmp_path, monkeypatch):
    from torchvision import datasets

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 3072), dtype=np.uint8)

    def payload(name):
        return {"label_names": list("abcdefghij")} if "meta" in name else {"data": pixels, "labels": [3, 1, 4, 1]}

    entries = python_version(tmp_path, payload)
    monkeypatch.setattr(datasets.CIFAR10, "train_list", entries[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", entries[5:6])
    monkeypatch.setattr(
        datasets.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": entries[6][1]}
    )
    train, test = CIFAR10(tmp_path).read()
    assert train.labels.tolist() == [3, 1, 4, 1] * 5
    assert np.array_equal(test.images.numpy(), pixels.reshape(4, 3, 32, 32))


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_foreign_pickle_is_refused_and_runs_no_code(tmp_path):
    """Files that are not the published ones, in the place of torchvision's, are never opened by pickle."""
    mark = tmp_path / "exploded"
    python_version(tmp_path, lambda name: Bomb(mark))
    with pytest.raises(ValueError, match="its md5 differs"):
        CIFAR10(tmp_path).read()
    assert not mark.exists()
