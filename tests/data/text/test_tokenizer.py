"""From texts to ids: what a vocabulary, a pretrained model and the training texts make of them."""

import builtins
import json
import subprocess
import sys

import pytest
import torch
from transformers import BertTokenizer, PreTrainedTokenizerFast

from lets_runner.data import GLUE
from lets_runner.data.text.texts import TextData, Texts
from lets_runner.data.text.tokenizer import known, learned

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "un", "##aff", "##able", "world", "!", ",", "naive"]
TEXTS = ["Hello, unaffable world!", "Naïve hello", "strange", "", "world " * 30]
PAIRS = ["un world", "hello " * 30, "!", "naive", ","]


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in PIECES))
    return path


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("second", [None, PAIRS])
def test_a_vocabulary_cuts_texts_as_bert_does(vocabulary, lowercase, second):
    tokenizer = known(str(vocabulary), lowercase=lowercase)
    oracle = BertTokenizer(vocab=str(vocabulary), do_lower_case=lowercase)
    ids, segments = tokenizer.encode(TEXTS, second, max_length=16)
    expected = oracle(TEXTS, second, truncation=True, max_length=16)
    assert ids == expected["input_ids"]
    assert segments == expected["token_type_ids"]
    assert max(map(len, ids)) == 16
    assert (len(tokenizer), tokenizer.padding) == (len(PIECES), 0)


def test_a_folder_of_a_pretrained_model_has_its_tokenizer(tmp_path):
    mine = learned(TEXTS, size=300, lowercase=True)
    theirs = PreTrainedTokenizerFast(tokenizer_object=mine.backend, pad_token="[PAD]", unk_token="[UNK]")
    theirs.save_pretrained(tmp_path / "model")
    tokenizer = known(str(tmp_path / "model"), lowercase=False)
    assert tokenizer.encode(TEXTS, PAIRS, max_length=20) == mine.encode(TEXTS, PAIRS, max_length=20)
    assert (len(tokenizer), tokenizer.padding) == (len(mine), 0)


LEARN = """
import json, sys
from lets_runner.data.text.tokenizer import learned
texts = json.loads(sys.argv[1])
print(json.dumps(learned(texts, size=290, lowercase=True).encode(texts, None, max_length=99)))
"""


@pytest.mark.full
def test_learned_pieces_are_the_same_in_every_process():
    words = [" ".join("abcdefgh"[(i * j) % 8] * 3 for j in range(1, 9)) for i in range(60)]
    said = {subprocess.check_output([sys.executable, "-c", LEARN, json.dumps(words)], text=True) for _ in range(3)}
    [ids, _] = json.loads(said.pop())
    assert not said
    assert max(max(each) for each in ids) >= 270  # pieces of several letters


def test_any_text_can_be_written_with_learned_pieces():
    tokenizer = learned(["plain words"], size=300, lowercase=False)
    [ids], _ = tokenizer.encode(["日本 ünïcode \x00 🎉"], None, max_length=99)
    assert 1 not in ids  # [UNK]
    assert tokenizer.backend.decode(ids[1:-1], skip_special_tokens=False).replace("Ġ", " ")


class Named(TextData):
    """Texts that say which part they are of."""

    target_kind, classes = "classes", 2

    def read(self):
        return tuple(Texts([name * 9] * 8, None, torch.arange(8) % 2) for name in ("train ", "test "))


def test_pieces_are_learned_from_the_training_part_alone():
    splits = Named(vocabulary_size=300).splits()
    lengths = [int(part.lengths.max()) for part in (splits.train, splits.test)]
    assert lengths[0] < lengths[1]  # words that it has not seen take more pieces


def test_a_vocabulary_that_is_none_is_refused(tmp_path, vocabulary):
    vocabulary.write_text("hello\nworld\n")
    with pytest.raises(ValueError, match=r"vocab.txt: has no piece \[PAD\]; a line must be a piece"):
        GLUE(task="rte", tokenizer=str(vocabulary))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"^tokenizer=.*empty: cannot be read \(.*\)$") as caught:
        GLUE(task="rte", tokenizer=str(tmp_path / "empty"))
    assert "\n" not in str(caught.value)


def test_without_a_network_a_line_says_which_files_to_put_where(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host\nor something")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(
        ValueError, match=r"microsoft/deberta-base.*no route to host.*put config.json, .*tokenizer.json"
    ) as e:
        known("microsoft/deberta-base", lowercase=True)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(("package", "source"), [("tokenizers", None), ("transformers", "folder")])
def test_a_library_that_is_missing_is_named(monkeypatch, package, source):
    real = builtins.__import__

    def without(name, *rest, **settings):
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(name)
        return real(name, *rest, **settings)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=rf"{package} is not installed; pip install 'lets_runner\[text\]'"):
        learned([], size=300, lowercase=True) if source is None else known(source, lowercase=True)
