"""Pairs of sentences: files, batches by tokens, shares, and what is refused."""

import sys
from collections import Counter

import numpy as np
import pytest
import torch
from corpus import pairs, write_corpus

from lets_runner.data import ParallelText
from lets_runner.data.stream import Share
from lets_runner.data.text.loader import cut
from lets_runner.tokens import EOS, IGNORED, PAD

CPU = torch.device("cpu")


@pytest.fixture
def data(tmp_path):
    return ParallelText(str(write_corpus(tmp_path / "text")), merges=40)


def loader(data, part="train", *, batch_size=16, seed=(0, 0), **settings):
    examples = getattr(data.splits(), part)
    return data.loader(examples, batch_size=batch_size, seed=seed, device=CPU, augmented=True, **settings)


def words(data, batch):
    """A batch as text, from its tokens alone."""
    sources = [data.vocabulary.text(row.tolist()) for row in batch.source]
    targets = [data.vocabulary.text(row[row != IGNORED].tolist()) for row in batch.target]
    return list(zip(sources, targets, strict=True))


def test_parts_are_the_files_and_translate_each_other(data):
    assert [len(part) for part in vars(data.splits()).values()] == [60, 12, 9]
    assert data.val_fraction == 12 / 72
    for number, part in enumerate(("train", "val", "test")):
        count = len(getattr(data.splits(), part))
        batches = list(loader(data, part).in_order())
        found = {n: pair for batch in batches for n, pair in zip(batch.numbers, words(data, batch), strict=True)}
        assert [found[n] for n in range(count)] == pairs(count, seed=(0, number))
        assert all(pair[1] == batch.references[row] for batch in batches for row, pair in enumerate(words(data, batch)))


def test_an_epoch_has_every_pair_once_and_batches_are_a_function_of_seed_and_number(data):
    epochs = []
    one, other = loader(data), loader(data)
    for epoch in range(2):
        batches = [one.batch(epoch * len(one) + n) for n in range(len(one))]
        assert Counter(n for batch in batches for n in batch.numbers) == Counter(range(60))
        epochs.append([batch.numbers for batch in batches])
    assert epochs[0] != epochs[1] and sorted(epochs[0]) == sorted(epochs[1])
    for number in (2 * len(other) - 1, 0, 3):
        assert torch.equal(other.batch(number).source, one.batch(number).source)
        assert torch.equal(other.batch(number).target, one.batch(number).target)
    assert len(loader(data, seed=(1, 0))) == len(one)
    assert [loader(data, seed=(1, 0)).batch(n).numbers for n in range(len(one))] != epochs[0]


def test_rows_end_with_the_end_and_are_padded_as_the_lengths_say(data):
    batch = loader(data).batch(0)
    assert batch.tokens == sum(batch.lengths) == (batch.target != IGNORED).sum()
    for source, target, length in zip(batch.source, batch.target, batch.lengths, strict=True):
        assert target[length - 1] == EOS and (target[length:] == IGNORED).all()
        end = int((source == EOS).nonzero())
        assert (source[end + 1 :] == PAD).all() and (source[:end] != PAD).all()


@pytest.mark.parametrize("size", [2, 3])
def test_shares_are_the_batch_of_one_process(data, size):
    whole = loader(data)
    shares = [loader(data, share=Share(rank, size)) for rank in range(size)]
    for number in range(len(whole)):
        parts = [share.batch(number) for share in shares]
        assert torch.equal(torch.cat([part.source for part in parts]), whole.batch(number).source)
        assert torch.equal(torch.cat([part.target for part in parts]), whole.batch(number).target)
        assert sum(part.tokens for part in parts) == whole.batch(number).tokens
        assert {part.mean_tokens for part in parts} == {whole.batch(number).tokens / size}
    in_order = [list(share.in_order()) for share in shares]
    assert len({len(batches) for batches in in_order}) == 1
    assert Counter(n for batches in in_order for batch in batches for n in batch.numbers) == Counter(range(60))


def test_batches_keep_to_their_tokens_and_waste_little():
    lengths = np.random.default_rng(0).integers(2, 60, 1000)
    batches = cut(lengths, max_tokens=500, most=64, seed=0)
    sizes = [(len(batch), lengths[batch].max()) for batch in batches]
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    assert all(count * longest <= 500 and count <= 64 for count, longest in sizes)
    assert sum(count * longest for count, longest in sizes) < 1.1 * lengths.sum()
    assert min(count for count, _ in sizes) >= 500 // 60
    assert len(cut(lengths, max_tokens=500, most=64, seed=1)) == len(batches)


def test_no_batch_of_a_few_that_are_left_over():
    assert [len(batch) for batch in cut(np.full(21, 5), max_tokens=50, most=10, seed=0)] == [10, 6, 5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 8}, "max_tokens=8: a sentence has [0-9]+ tokens, its end included"),
        ({"max_tokens": 30}, r"max_tokens=30: makes a batch of [12] sentences, too few for 4 parts \(2 processes x 2"),
    ],
)
def test_batches_that_cannot_be_are_refused(tmp_path, settings, message):
    data = ParallelText(str(write_corpus(tmp_path)), merges=40, **settings)
    with pytest.raises(ValueError, match=message):
        loader(data, share=Share(0, 2, parts=2))


GOOD = ["a b", "c d"]


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("train.en", None, "root=.*: there is no train.en; put the sentences"),
        ("test.de", b"a\nb\nc\n", "test.de has 3 lines, and .*test.en has 9"),
        ("valid.de", b"a\n\nc\n", "valid.de, line 2: has no words"),
        ("train.de", b"a\n \t\nc\n", "train.de, line 2: has no words"),
        ("train.de", b"a\nb\xff\n", r"train.de, line 2: is not UTF-8 \(invalid start byte\)"),
        ("train.de", b"", "train.de: is empty"),
    ],
)
def test_bad_files_are_one_line(tmp_path, part, content, message):
    write_corpus(tmp_path)
    (tmp_path / part).unlink()
    if content is not None:
        (tmp_path / part).write_bytes(content)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        ParallelText(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_fifos_are_not_waited_for(tmp_path):
    import os

    write_corpus(tmp_path)
    (tmp_path / "test.en").unlink()
    os.mkfifo(tmp_path / "test.en")
    with pytest.raises(OSError, match="is a FIFO"):
        ParallelText(str(tmp_path))


def test_codes_and_vocabulary_are_used_where_they_are(tmp_path):
    write_corpus(tmp_path)
    learned = ParallelText(str(tmp_path), merges=40)
    (tmp_path / "bpe_codes_2").write_text("#version: 0.2\nd e\nde r</w>\n")
    found = ParallelText(str(tmp_path))
    assert "der</w>" in found.vocabulary.tokens and found.outputs < learned.outputs
    assert ParallelText(str(tmp_path), codes=None, merges=40).outputs == learned.outputs
    (tmp_path / "vocab").write_text("der 5\nd@@ 3\n")
    assert ParallelText(str(tmp_path)).vocabulary.tokens[3:] == ("der</w>", "d")
    (tmp_path / "code").write_text("#version: 0.2\nd e\n")
    with pytest.raises(ValueError, match="codes=auto: bpe_codes_2 and code are there; name one"):
        ParallelText(str(tmp_path))
    assert "der</w>" not in ParallelText(str(tmp_path), codes="code", vocabulary=None).vocabulary.tokens
    with pytest.raises(OSError, match="codes=other: there is no such file"):
        ParallelText(str(tmp_path), codes="other")


def test_files_of_pieces_are_refused(tmp_path):
    """As fairseq's script leaves them beside their codes: pieces would be cut again, and BLEU would be of pieces."""
    cut = ["d@@ er hund", *["der hund"] * 8]
    ParallelText(str(write_corpus(tmp_path, test_de=[*cut, cut[1]], test_en=["the dog"] * 10)))
    with pytest.raises(ValueError, match=r"test.de: its words are in pieces already \(@@\); give files in words"):
        ParallelText(str(write_corpus(tmp_path, test_de=cut)))


def test_sentences_that_are_too_long_are_named(tmp_path):
    write_corpus(tmp_path)
    with pytest.raises(ValueError, match=r"max_length=5: line [0-9]+ of the train set in de has [0-9]+ tokens"):
        ParallelText(str(tmp_path), max_length=5)
    with pytest.raises(ValueError, match="merges=0: must be at least 1"):
        ParallelText(str(tmp_path), merges=0)


def test_without_the_extra_one_line_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r"pip install 'lets_runner\[text\]'"):
        ParallelText(str(write_corpus(tmp_path)))
