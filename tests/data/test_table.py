"""Tables: what is read from a CSV or npz, how it is split and standardised, and what is refused."""

import os
import pickle

import numpy as np
import pytest
import torch
from conftest import write_csv

from lets_runner.data import LabelledTable, Share, Table
from lets_runner.data.numbers import read_numbers

CPU = torch.device("cpu")


def rows(count=50, columns=3, seed=0):
    return np.random.default_rng(seed).normal(3, 5, (count, columns))


def classes(count=60):
    return np.column_stack([rows(count, 2), np.arange(count) % 3])


@pytest.fixture
def numbers(tmp_path):
    return write_csv(tmp_path / "numbers.csv", "a,b,y", rows())


@pytest.fixture
def labelled(tmp_path):
    return write_csv(tmp_path / "labelled.csv", "a,b,kind", classes())


def test_a_csv_is_read_by_the_names_in_its_first_line(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b'\xef\xbb\xbfa, "y" ,b\r\n1,-2.5,3e-2\r\n\r\n4, 5 ,"6"\r\n')
    read = read_numbers(path, "y")
    assert read.columns == ("a", "b")
    assert read.inputs.tolist() == [[1, 0.03], [4, 6]]
    assert read.targets.tolist() == [[-2.5], [5]]
    several = read_numbers(path, ["b", "a"])
    assert several.targets.tolist() == [[0.03, 1], [6, 4]]
    assert several.inputs.tolist() == [[-2.5], [5]]


def test_an_npz_holds_inputs_and_targets(tmp_path):
    np.savez(tmp_path / "table.npz", inputs=np.arange(24, dtype=np.int16).reshape(4, 3, 2), targets=np.arange(4) / 4)
    data = Table(str(tmp_path / "table.npz"), test_fraction=0.5)
    assert (data.shape, data.outputs) == ((3, 2), 1)
    assert {data.splits().train.inputs.shape, data.splits().test.inputs.shape} == {(2, 3, 2)}


def test_parts_are_drawn_at_random_once_and_standardised_by_the_training_part(numbers):
    data = Table(str(numbers), target="y", val_fraction=0.25, split_seed=3, test_seed=4)
    splits = data.splits()
    order = np.random.default_rng(4).permutation(50)
    test, rest = sorted(order[:10]), np.array(sorted(order[10:]))
    order = np.random.default_rng(3).permutation(40)
    val, train = rest[sorted(order[:10])], rest[sorted(order[10:])]
    raw = rows()
    mean, std = raw[train].mean(0), raw[train].std(0)
    for part, index in {"train": train, "val": val, "test": test}.items():
        expected = torch.tensor((raw[index] - mean) / std).float()
        torch.testing.assert_close(getattr(splits, part).inputs, expected[:, :2])
        torch.testing.assert_close(getattr(splits, part).targets, expected[:, 2:])
    assert splits.train.inputs.dtype == splits.train.targets.dtype == torch.float32
    again = Table(str(numbers), target="y", val_fraction=0.25, split_seed=3, test_seed=4).splits()
    assert torch.equal(again.val.inputs, splits.val.inputs)


def test_numbers_stay_as_they_are_if_asked(numbers):
    data = Table(str(numbers), target="y", standardise_inputs=False, standardise_targets=False)
    splits = data.splits()
    everything = torch.cat(
        [torch.cat([part.inputs, part.targets], 1) for part in (splits.train, splits.val, splits.test)]
    )
    assert sorted(everything.tolist()) == sorted(torch.tensor(rows()).float().tolist())


def test_a_constant_column_becomes_zero(tmp_path):
    table = rows()
    table[:, 0] = 0.1
    data = Table(str(write_csv(tmp_path / "constant.csv", "a,b,y", table)), target="y")
    assert data.splits().test.inputs[:, 0].abs().max() < 1e-6


def test_a_file_of_its_own_is_the_test_set(tmp_path, numbers):
    test = write_csv(tmp_path / "test.csv", "a,b,y", rows(7, seed=1))
    splits = Table(str(numbers), target="y", test_path=str(test)).splits()
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [45, 5, 7]


def test_classes_are_split_class_by_class_and_spoiled(labelled):
    clean, noisy = (LabelledTable(str(labelled), target="kind", label_noise=share).splits() for share in (0.0, 0.5))
    for part in (clean.train, clean.val, clean.test):
        assert len(set(part.targets.bincount().tolist())) == 1
    assert clean.train.targets.dtype == torch.int64
    assert (clean.train.targets != noisy.train.targets).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(clean.test.targets, noisy.test.targets)
    assert torch.equal(clean.train.inputs, noisy.train.inputs)
    data = LabelledTable(str(labelled), target="kind")
    assert (data.classes, data.outputs, data.shape) == (3, 3, (2,))


def test_batches_hold_rows_with_their_targets_shared_by_processes(numbers):
    data = Table(str(numbers), target="y")
    part = data.splits().train

    def loader(**share):
        return data.loader(part, batch_size=8, seed=(0, 0), device=CPU, augmented=True, **share)

    pairs = {tuple(x.tolist()): y.item() for x, y in zip(part.inputs, part.targets, strict=True)}
    inputs, targets = loader().batch(7)
    assert [pairs[tuple(x.tolist())] for x in inputs] == targets[:, 0].tolist()
    shared = [loader(share=Share(rank, 2)).batch(7) for rank in range(2)]
    assert torch.equal(torch.cat([x for x, _ in shared]), inputs)
    assert torch.equal(torch.cat([x for x, _ in loader().in_order(7)]), part.inputs)
    assert len({*map(tuple, torch.cat([loader().batch(number)[0] for number in range(4)]).tolist())}) == 32


CSV = {  # what a file holds, and what is said of it with target=y
    "": "is empty, or its first line is; that must name the columns",
    "a,y\n": "holds no rows below its header",
    "1,2\n3,4\n": "its first line holds numbers; put a line above it that names the columns",
    ",y\n1,2\n": r"column 1 has no name \(an index\? leave it out\)",
    "a,a,y\n1,2,3\n": "two columns are called a",
    "a,z\n1,2\n": "target=y: .* has no such column; there are a, z",
    "a,yy\n1,2\n": "no such column; did you mean yy",
    "y\n1\n": "target=y: leaves no column of",
    "a,y\n1,2\n3\n": "line 3: has 1 cells, and the first line names 2 columns",
    "a,y\n1,2,3\n": "line 2: has 3 cells, and the first line names 2 columns",
    "a,y\n1,2\nthree,4\n": "line 3, column a: 'three' is no finite number",
    "a,y\n1,2\n3,\n": "line 3, column y: is empty",
    "a,y\nnan,2\n": "line 2, column a: 'nan' is no finite number",
    "a,y\n1,-inf\n": "line 2, column y: '-inf' is no finite number",
    "a,y\n1e39,2\n": "line 2, column a: '1e39' is no finite number of single precision",
    "a,y\n\x00,2\n": "line 2, column a: .* is no finite number|cannot be read as a CSV",
}


@pytest.mark.parametrize(("content", "message"), CSV.items(), ids=repr)
def test_a_csv_that_is_none_is_refused_in_a_line_that_names_the_place(tmp_path, content, message):
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        Table(str(path), target="y")
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"a,y\n\xff\xfe,1\n")
    with pytest.raises(ValueError, match="cannot be read as a CSV in UTF-8"):
        Table(str(tmp_path / "table.csv"), target="y")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


ARRAYS = [
    ({"inputs": np.ones((3, 2))}, "holds no array targets"),
    ({"inputs": np.ones((3, 2)), "targets": np.ones(2)}, r"inputs are \(3, 2\) and targets \(2,\)"),
    ({"inputs": np.ones(3), "targets": np.ones(3)}, r"inputs are \(3,\)"),
    ({"inputs": np.ones((0, 2)), "targets": np.ones(0)}, "at least one"),
    ({"inputs": np.ones((3, 2)), "targets": np.array(["a", "b", "c"])}, "targets are <U1, not numbers"),
    ({"inputs": np.ones((3, 2)) * 1j, "targets": np.ones(3)}, "inputs are complex128, not numbers"),
    ({"inputs": np.array([[1, 2], [np.nan, 3]]), "targets": np.ones(2)}, r"inputs\[1, 0\] is nan"),
    ({"inputs": np.ones((2, 2)), "targets": np.array([1e300, 0])}, r"targets\[0, 0\]|targets\[0\] is 1e\+300"),
]


@pytest.mark.parametrize(("arrays", "message"), ARRAYS, ids=lambda value: value if isinstance(value, str) else "")
def test_an_npz_that_does_not_fit_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "table.npz", **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        Table(str(tmp_path / "table.npz"))
    assert "\n" not in str(caught.value)


def test_a_pickle_runs_no_code(tmp_path):
    mark = tmp_path / "exploded"
    np.savez(tmp_path / "table.npz", inputs=np.array([Bomb(str(mark))], dtype=object), targets=np.ones(1))
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(Bomb(str(mark))))
    np.save(tmp_path / "array.npy", np.ones((3, 2)))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name in ("table", "plain", "array"):
        with pytest.raises(ValueError, match="cannot be read as an npz of numbers"):
            Table(str(tmp_path / f"{name}.npz"))
    assert not mark.exists()


def test_a_cut_npz_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "table.npz", inputs=rows(), targets=np.ones(50))
    content = (tmp_path / "table.npz").read_bytes()
    for kept in (0, 10, len(content) // 2, len(content) - 30):
        (tmp_path / "table.npz").write_bytes(content[:kept])
        with pytest.raises(ValueError, match="cannot be read as an npz of numbers"):
            Table(str(tmp_path / "table.npz"))
    (tmp_path / "table.npz").write_bytes(content[:200] + bytes(50) + content[250:])
    with pytest.raises(ValueError, match="cannot be read as an npz of numbers"):
        Table(str(tmp_path / "table.npz"))


def test_what_is_no_file_is_refused_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path=.*nowhere.csv: there is no such file"):
        Table(str(tmp_path / "nowhere.csv"), target="y")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(OSError, match=r"pipe.csv is a FIFO, not a regular file"):
        Table(str(tmp_path / "pipe.csv"), target="y")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(OSError, match=r"folder.npz is a folder, not a regular file"):
        Table(str(tmp_path / "folder.npz"))
    with pytest.raises(ValueError, match=r"must end in .csv or .npz"):
        Table(str(tmp_path / "table.xlsx"), target="y")


@pytest.mark.parametrize("column", [[1, 2, 3], [0, 2, 0], [0, 0.5, 1], [-1, 0, 1], [0, 0, 0], [0, 1e9, 1]], ids=str)
def test_classes_that_are_not_counted_from_zero_are_refused(tmp_path, column):
    path = write_csv(tmp_path / "table.csv", "a,kind", np.column_stack([rows(30, 1), column * 10]))
    with pytest.raises(ValueError, match=r"target: the classes are .*must be 0, 1, \.\.\. without a gap"):
        LabelledTable(str(path), target="kind")


def test_a_test_set_that_does_not_fit_is_refused(tmp_path, numbers, labelled):
    other = write_csv(tmp_path / "other.csv", "b,a,y", rows(7))
    with pytest.raises(ValueError, match=r"test_path=.*other.csv: its columns are not those"):
        Table(str(numbers), target="y", test_path=str(other))
    more = write_csv(tmp_path / "more.csv", "a,b,kind", [[1, 2, 3]])
    with pytest.raises(ValueError, match="test_path: has other classes than the 3 of the training set"):
        LabelledTable(str(labelled), target="kind", test_path=str(more))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": None}, "target=None: must name the column to predict, or several: a, b, y"),
        ({"target": ["y", "y"]}, "names a column twice"),
        ({"test_fraction": 0}, "test_fraction=0: must lie in"),
        ({"test_fraction": 1.0}, "test_fraction=1.0: must lie in"),
        ({"test_seed": -1}, "test_seed=-1: must be a whole number"),
        ({"split_seed": None}, "split_seed=None: must be a whole number"),
        ({"val_fraction": 1}, "val_fraction=1: must lie in"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_refuses_settings_out_of_range_by_name(numbers, settings, message):
    with pytest.raises(ValueError, match=message):
        Table(str(numbers), **{"target": "y", **settings})


def test_a_test_set_of_nothing_is_refused(tmp_path):
    path = write_csv(tmp_path / "table.csv", "a,b,y", rows(2))
    with pytest.raises(ValueError, match=r"test_fraction=0.1: leaves no example of 2 on one side"):
        Table(str(path), target="y", test_fraction=0.1).splits()
