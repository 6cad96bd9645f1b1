"""Batches of sequences: what is in them, how wide they are, and that they depend on seed and number alone."""

import numpy as np
import pytest
import torch

from lets_runner.data import Share
from lets_runner.data.text.tokens import TokenLoader, padded

CPU = torch.device("cpu")
LENGTHS = np.random.default_rng(0).integers(1, 30, 23)
IDS = [[100 * number + place for place in range(length)] for number, length in enumerate(LENGTHS)]
SEGMENTS = [[place % 2 for place in range(length)] for length in LENGTHS]


def tokens(width=30):
    return padded(IDS, SEGMENTS, torch.arange(23), padding=9, width=width)


def loader(*, batch_size=6, seed=(0, 0), fixed=False, **settings):
    return TokenLoader(tokens(), batch_size=batch_size, seed=seed, device=CPU, fixed=fixed, **settings)


def check(inputs, targets):
    """Every row by the definition."""
    for row, number in enumerate(targets.tolist()):
        rest = inputs["input_ids"].shape[1] - len(IDS[number])
        assert inputs["input_ids"][row].tolist() == IDS[number] + [9] * rest
        assert inputs["token_type_ids"][row].tolist() == SEGMENTS[number] + [0] * rest
        assert inputs["attention_mask"][row].tolist() == [1] * len(IDS[number]) + [0] * rest


def test_batches_hold_sequences_with_their_targets_as_wide_as_the_longest():
    widths = set()
    for number in range(9):
        inputs, targets = loader().batch(number)
        check(inputs, targets)
        longest = max(len(IDS[number]) for number in targets.tolist())
        assert inputs["input_ids"].shape == (6, min(-(-longest // 8) * 8, 30))
        widths.add(inputs["input_ids"].shape[1])
    assert len(widths) > 1
    in_order = list(loader().in_order(5))
    assert torch.cat([targets for _, targets in in_order]).tolist() == list(range(23))
    for inputs, targets in in_order:
        check(inputs, targets)


def test_batches_are_all_of_a_width_if_asked():
    assert {loader(fixed=True).batch(number)[0]["input_ids"].shape for number in range(9)} == {(6, 30)}
    assert {inputs["input_ids"].shape[1] for inputs, _ in loader(fixed=True).in_order(5)} == {30}


def test_a_batch_depends_on_seed_and_number_alone():
    first, second = loader(), loader()
    late = [second.batch(number) for number in (7, 2)]
    for number, (inputs, targets) in zip((7, 2), late, strict=True):
        again = first.batch(number)
        assert torch.equal(again[1], targets)
        assert all(torch.equal(again[0][name], inputs[name]) for name in inputs)
    assert not torch.equal(loader(seed=(0, 1)).batch(7)[1], late[0][1])


@pytest.mark.parametrize("size", [2, 3])
def test_the_rows_of_all_processes_are_the_batch_of_one(size):
    whole, ranks = loader(), [loader(share=Share(rank, size)) for rank in range(size)]
    for number in range(6):
        inputs, targets = whole.batch(number)
        shares = [rank.batch(number) for rank in ranks]
        assert torch.equal(torch.cat([labels for _, labels in shares]), targets)
        for name in inputs:
            assert torch.equal(torch.cat([share[name] for share, _ in shares]), inputs[name])


def test_sequences_without_a_single_one_are_no_error():
    assert len(padded([], [], torch.zeros(0), padding=0, width=0)) == 0
