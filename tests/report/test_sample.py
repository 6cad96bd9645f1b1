"""Means, deviations and Welch's test, against values from elsewhere."""

import math

import pytest

from lets_runner.report.sample import marks, sample


def test_mean_and_deviation_of_the_population():
    one = sample([2, 4, math.nan, 9])
    assert (one.n, one.mean) == (3, 5)
    assert one.sd == pytest.approx(math.sqrt((9 + 1 + 16) / 2))
    assert one.text(".2f") == "5.00 ± 3.61"


def test_one_value_has_no_deviation_and_none_no_sample():
    assert sample([3]).sd is None
    assert sample([3]).text(".1f") == "3.0"
    assert sample([math.nan]) is None


# Welch (1947): t = Δ/√(s₁²/n₁ + s₂²/n₂). With n = 3 and both sd 1, ν = 4 and the two-sided 5 % point is t = 2.776, that
# is Δ = 2.267; with sd 1 and 0.01, ν = 2.0004, t = 4.302 and Δ = 2.484.
@pytest.mark.parametrize(
    ("difference", "sd", "mark"), [(2.2, 1, "close"), (2.3, 1, ""), (2.3, 0.01, "close"), (2.6, 0.01, "")]
)
def test_what_welch_cannot_tell_from_the_best_is_close(difference, sd, mark):
    best = sample([9.0, 10.0, 11.0])
    other = sample([10.0 - difference + sd * step for step in (-1, 0, 1)])
    assert marks([other, best, None]) == [mark, "best", ""]


def test_without_spread_or_with_one_seed_nothing_is_close():
    assert marks([sample([1]), sample([2, 3])]) == ["", "best"]
    assert marks([sample([2.4, 2.6]), sample([3])]) == ["", "best"]
    assert marks([sample([1, 1]), sample([2, 2]), sample([2, 2])]) == ["", "best", "best"]
    assert marks([None, None]) == ["", ""]
