"""Which examples a process takes."""

import numpy as np
import pytest

from lets_runner.data.stream import Share, Stream


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("count", [7, 8, 23, 100])
@pytest.mark.parametrize("piece", [1, 2, 5, 500])
def test_in_order_every_example_is_on_one_process_and_all_have_as_many_pieces(size, count, piece):
    ranks = [Stream(count, batch_size=size, seed=(0,), share=Share(rank, size)).pieces(piece) for rank in range(size)]
    assert np.concatenate([np.arange(count)[cut] for rank in ranks for cut in rank]).tolist() == list(range(count))
    assert len({len(rank) for rank in ranks}) == 1
    lengths = [cut.stop - cut.start for rank in ranks for cut in rank]
    assert min(lengths) >= 1
    assert max(lengths) <= piece + (piece == 1)  # one example more where there are not enough to go round
    assert max(lengths) - min(lengths) <= 2


@pytest.mark.parametrize(
    ("count", "batch_size", "size", "message"),
    [
        (20, 6, 4, "batch_size=6: must be a multiple of the 4 processes that share it"),
        (20, 21, 1, "batch_size=21: must lie between 1 and the 20 examples there are"),
        (3, 4, 4, "3 examples are too few for 4 processes: start 3 at most"),
    ],
)
def test_refuses_what_cannot_be_shared_in_one_line(count, batch_size, size, message):
    with pytest.raises(ValueError) as caught:
        Stream(count, batch_size=batch_size, seed=(0,), share=Share(0, size))
    assert str(caught.value) == message


@pytest.mark.parametrize(("rank", "size"), [(-1, 1), (2, 2), (0, 0)])
def test_refuses_a_rank_that_there_is_not(rank, size):
    with pytest.raises(ValueError, match=f"rank={rank}: must lie between 0 and"):
        Share(rank, size)
