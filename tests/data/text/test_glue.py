"""GLUE's files: what is read of them, how it is split, and what is refused."""

import numpy as np
import pytest
import torch
from conftest import GLUE_FILES, write_glue
from sklearn.metrics import accuracy_score

from lets_runner.data import GLUE
from lets_runner.data.text.glue import read_columns

TASKS = sorted(GLUE_FILES)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("inside", ["", "glue"])
def test_every_task_is_read_by_its_columns(tmp_path, task, inside):
    write_glue(tmp_path / inside, task)
    data = GLUE(task=task, root=str(tmp_path), vocabulary_size=400)
    train, dev = data.read()
    assert (len(train), len(dev)) == (40, 12)
    assert (train.second is None) == (task in ("cola", "sst2"))
    marks = torch.tensor([text.split().count("so") for text in train.first])
    words = GLUE_FILES[task][3].split()
    if task == "stsb":
        assert (data.target_kind, data.outputs) == ("numbers", 1)
        assert train.targets.tolist() == [[pytest.approx(float(words[mark]))] for mark in marks]
    else:
        order = {"mnli": ["contradiction", "neutral", "entailment"]}.get(task, sorted(words, reverse=len(words[0]) > 1))
        assert (data.target_kind, data.outputs) == ("classes", len(words))
        assert accuracy_score(train.targets, [order.index(words[mark]) for mark in marks]) == 1
    if train.second is not None:
        assert [text.split().count("so") for text in train.second] == marks.tolist()
        assert train.first != train.second


def test_mnli_is_measured_on_other_sources_if_asked(tmp_path):
    write_glue(tmp_path, "mnli", dev=6)
    (tmp_path / "MNLI" / "dev_mismatched.tsv").write_text((tmp_path / "MNLI" / "train.tsv").read_text())
    sizes = [len(GLUE(task="mnli", root=str(tmp_path), mismatched=m).splits().test) for m in (False, True)]
    assert sizes == [6, 40]


def test_quotation_marks_are_text_and_tabs_alone_set_cells_apart(tmp_path):
    path = tmp_path / "file.tsv"
    path.write_bytes('\ufeffa\tb\n"never closed, \u2028 he\x85said\t1\r\n""\t"2\n'.encode())
    assert read_columns(path, ["b", "a"]) == [["1", '"2'], ['"never closed, \u2028 he\x85said', '""']]


def test_lines_with_too_few_cells_are_left_out_and_counted(tmp_path):
    write_glue(tmp_path, "qqp")
    with open(tmp_path / "QQP" / "train.tsv", "a") as file:
        file.write("40\t1\t2\tcut off\n\n")
    with pytest.warns(UserWarning, match=r"QQP/train.tsv: 2 of 42 lines have too few cells and are left out"):
        train, _ = GLUE(task="qqp", root=str(tmp_path)).read()
    assert len(train) == 40


def test_validation_has_its_share_of_every_class_and_the_test_set_is_left_alone(tmp_path):
    write_glue(tmp_path, "mnli", train=60)
    splits = GLUE(task="mnli", root=str(tmp_path), val_fraction=0.25).splits()
    assert splits.train.targets.bincount().tolist() == [15, 15, 15]
    assert splits.val.targets.bincount().tolist() == [5, 5, 5]
    noisy = GLUE(task="mnli", root=str(tmp_path), val_fraction=0.25, label_noise=0.4).splits()
    assert (noisy.train.targets != splits.train.targets).sum() == 18
    assert (noisy.val.targets != splits.val.targets).sum() == 6
    assert torch.equal(noisy.test.targets, splits.test.targets)
    assert torch.equal(noisy.train.ids, splits.train.ids)


def test_scores_are_split_at_random(tmp_path):
    write_glue(tmp_path, "stsb")
    data = GLUE(task="stsb", root=str(tmp_path), val_fraction=0.25, split_seed=3)
    held = sorted(np.random.default_rng(3).permutation(40)[:10])
    assert torch.equal(data.splits().val.targets, data.read()[0].targets[held])


FILES = {  # what a file of RTE holds, and what is said of it
    "": "its first line names no column sentence1; GLUE's files are to be had at https://gluebenchmark.com/tasks",
    "index\tsentence1\tsentence2\n0\ta\tb\n": "its first line names no column label",
    "index\tsentence1\tsentence2\tlabel\n": "has no lines with texts and targets",
    "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tmaybe\n": "label 'maybe' is not one of not_entailment, entailment",
    b"index\tsentence1\tsentence2\tlabel\n0\t\xff\xfe\tb\tentailment\n": "is no text in UTF-8",
}


@pytest.mark.parametrize(("content", "message"), FILES.items(), ids=repr)
def test_a_file_that_is_none_of_the_task_is_refused(tmp_path, content, message):
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE" / "train.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        GLUE(task="rte", root=str(tmp_path)).splits()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("word", ["", "nan", "1e400", "high"])
def test_scores_that_are_no_numbers_are_refused(tmp_path, word):
    write_glue(tmp_path, "stsb")
    path = tmp_path / "STS-B" / "dev.tsv"
    path.write_text(path.read_text().replace("2.500", word, 1))
    with pytest.raises(ValueError, match=f"dev.tsv: score '{word}' is not a number"):
        GLUE(task="stsb", root=str(tmp_path)).splits()


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"root=.*: has no MRPC/train.tsv, nor has a folder glue in it; GLUE's"):
        GLUE(task="mrpc", root=str(tmp_path)).splits()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "cloze"}, "task=cloze: must be one of cola, sst2"),
        ({"mismatched": True}, "mismatched=True: only MNLI has such a test set"),
        ({"task": "stsb", "label_noise": 0.2}, "label_noise=0.2: task=stsb has scores, and no labels to spoil"),
        ({"vocabulary_size": 260}, "vocabulary_size=260: must be at least 261"),
        ({"max_length": 4}, "max_length=4: must be at least 8"),
        ({"pad": "shortest"}, "pad=shortest: must be longest or max_length"),
        ({"val_fraction": 1}, "val_fraction=1: must lie in"),
        ({"noise": "asymmetric"}, "GLUE does not say which classes are taken for which"),
        ({"tokenizer": "nowhere.txt"}, "tokenizer=nowhere.txt: there is no such file"),
    ],
    ids=str,
)
def test_refuses_settings_out_of_range_by_name(settings, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        GLUE(**{"task": "rte", **settings})
