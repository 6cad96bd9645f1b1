"""Byte-pair encoding against subword-nmt's algorithm written out, and codes that are learned the same everywhere."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from corpus import pairs, write_corpus

from lets_runner.data import ParallelText
from lets_runner.data.text.bpe import END, Vocabulary, learned, read_codes, read_tokens
from lets_runner.data.text.lines import read_lines
from lets_runner.tokens import SPECIAL, UNKNOWN

# What subword-nmt 0.3.8 makes of `text`: learn-bpe -s 60 --min-frequency 2, apply-bpe, get-vocab.
THEIRS = Path(__file__).parent / "subword_nmt"
LINES = [line for pair in pairs(80) for line in pair] + ["übermäßig naïve &apos;s 数 数学", "a", "abab ab ababab"]


def oracle_merges(lines, count):
    """Learn BPE as Sennrich et al. have it in their algorithm 1; ties are whoever's, so counts alone are compared."""
    words = Counter((*word[:-1], word[-1] + END) for line in lines for word in line.split())
    pairs = Counter()
    for word, times in words.items():
        for pair in zip(word, word[1:], strict=False):
            pairs[pair] += times
    return pairs.most_common(count)


def oracle_segments(word, merges):
    """Apply merges one after the other, in the order in which they were learned."""
    pieces = [*word[:-1], word[-1] + END]
    for first, second in merges:
        place = 0
        while place < len(pieces) - 1:
            if pieces[place] == first and pieces[place + 1] == second:
                pieces[place : place + 2] = [first + second]
            place += 1
    return pieces


@pytest.mark.parametrize("count", [1, 30, 500])
def test_words_are_cut_as_by_the_algorithm(count):
    merges = learned(LINES, count)
    vocabulary = Vocabulary(merges, LINES)
    for line in LINES:
        expected = [piece for word in line.split() for piece in oracle_segments(word, merges)]
        assert [vocabulary.tokens[number] for number in vocabulary.encode([line])[0]] == expected


def test_the_first_merge_is_of_the_most_frequent_pair():
    [(pair, times), (_, others)] = oracle_merges(LINES, 2)
    assert times > others
    assert learned(LINES, 1) == [pair]


@pytest.mark.full
def test_merges_are_the_same_in_every_process(tmp_path):
    code = (
        "import sys; from lets_runner.data.text.bpe import learned; "
        f"print(learned(open({str(tmp_path / 'lines')!r}).read().splitlines(), 200))"
    )
    (tmp_path / "lines").write_text("\n".join(LINES))
    found = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
        for _ in range(4)
    }
    assert found == {f"{learned(LINES, 200)}\n"}


def test_text_comes_back_and_strangers_are_unknown():
    vocabulary = Vocabulary(learned(LINES, 100), LINES)
    assert [vocabulary.text(numbers) for numbers in vocabulary.encode(LINES)] == LINES
    assert vocabulary.tokens[:3] == SPECIAL
    [numbers] = vocabulary.encode(["hund ж"])
    assert numbers[-1] == UNKNOWN and (numbers != UNKNOWN).sum() == len(numbers) - 1
    assert vocabulary.text([*numbers, 1, 0, 0]) == "hund <unk>"
    assert vocabulary.text([UNKNOWN, *vocabulary.encode(["hund"])[0]]) == "<unk> hund"


def test_the_vocabulary_is_ordered_by_frequency_and_may_be_given():
    merges = learned(LINES, 100)
    vocabulary = Vocabulary(merges, LINES)
    counts = Counter(number for numbers in vocabulary.encode(LINES) for number in numbers.tolist())
    assert [counts[number] for number in range(3, len(vocabulary))] == sorted(counts.values(), reverse=True)
    few = Vocabulary(merges, LINES, vocabulary.tokens[3:9])
    assert len(few) == 9
    assert few.encode(["der ж"])[0].tolist() == [few.tokens.index("der</w>"), UNKNOWN]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a b"], "must begin with the line '#version: 0.2'"),
        (["#version: 0.2", "a b", "a b c"], "line 3: 'a b c' is not two pieces"),
        (["#version: 0.2", "ab"], "line 2: 'ab' is not two pieces"),
    ],
)
def test_codes_of_another_form_are_named(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        read_codes(tmp_path / "codes", lines)


def test_files_of_codes_and_pieces_are_subword_nmts(tmp_path):
    assert read_codes(tmp_path / "codes", ["#version: 0.2", "e n</w>", "t h"]) == [("e", "n</w>"), ("t", "h")]
    assert read_tokens(tmp_path / "vocab", ["the 12", "th@@ 3"]) == ["the</w>", "th"]
    with pytest.raises(ValueError, match="line 2: 'th@@' is not a piece and how often"):
        read_tokens(tmp_path / "vocab", ["the 12", "th@@"])
    with pytest.raises(ValueError, match="has a piece twice"):
        read_tokens(tmp_path / "vocab", ["the 12", "the 3"])


def as_theirs(pieces):
    return " ".join(piece.removesuffix(END) if piece.endswith(END) else f"{piece}@@" for piece in pieces)


def test_the_files_of_subword_nmt_cut_words_as_it_does():
    text, codes, cut, vocab = (read_lines(THEIRS / name) for name in ("text", "codes", "cut", "vocab"))
    merges, tokens = read_codes(THEIRS / "codes", codes), read_tokens(THEIRS / "vocab", vocab)
    for known in (None, tokens):
        vocabulary = Vocabulary(merges, text, known)
        found = [as_theirs(vocabulary.tokens[number] for number in numbers) for numbers in vocabulary.encode(text)]
        assert found == cut
        assert as_theirs(sorted(vocabulary.tokens[3:])) == as_theirs(sorted(tokens))
    assert [vocabulary.text(numbers) for numbers in vocabulary.encode(text)] == text


@pytest.mark.parametrize("name", ["vocab", "dict.txt"])
def test_a_corpus_with_these_files_is_numbered_by_them(tmp_path, name):
    lines = read_lines(THEIRS / "text")
    root = write_corpus(tmp_path / "tmp", train_de=lines[:4], train_en=lines[4:])
    (tmp_path / "code").write_bytes((THEIRS / "codes").read_bytes())  # where fairseq's script has them
    pieces = (THEIRS / "vocab").read_text()
    padding = "madeupword0000 0\nmadeupword0001 0\n"  # with which fairseq makes their number a multiple of eight
    (root / name).write_text(pieces + (padding if name == "dict.txt" else ""))
    data = ParallelText(str(root), codes="../code")
    assert data.outputs == len(SPECIAL) + len(pieces.splitlines()) + 2 * (name == "dict.txt")
    numbers = {line.split(" ")[0]: len(SPECIAL) + place for place, line in enumerate(pieces.splitlines())}
    expected = [[*(numbers[piece] for piece in line.split(" ")), 1] for line in read_lines(THEIRS / "cut")]
    pairs_ = data.splits().train
    for sentences, rows in ((pairs_.source, expected[:4]), (pairs_.target, expected[4:])):
        assert sentences.tokens.tolist() == [number for row in rows for number in row]


def test_spaces_of_other_kinds_belong_to_pieces(tmp_path):
    """subword-nmt takes only plain spaces for spaces; no word has another, so such a merge does nothing."""
    (tmp_path / "codes").write_bytes("#version: 0.2\n\u00a0 a\nb \u2028</w> \na b\r\n".encode())
    merges = read_codes(tmp_path / "codes", read_lines(tmp_path / "codes"))
    assert merges == [("\u00a0", "a"), ("b", "\u2028</w>"), ("a", "b")]
    vocabulary = Vocabulary(merges, ["abc"])
    assert [vocabulary.tokens[number] for number in vocabulary.encode(["abc"])[0]] == ["ab", "c</w>"]
