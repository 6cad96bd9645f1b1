"""Measures against scikit-learn, and that their sums add up."""

import pytest
import torch
from sklearn import metrics

from lets_runner.measures import Accuracy, SquaredError

DRAW = torch.Generator().manual_seed(0)
SCORES, LABELS = torch.randn(60, 5, generator=DRAW), torch.randint(0, 5, (60,), generator=DRAW)
NUMBERS, TARGETS = torch.randn(60, 2, generator=DRAW), 3 + torch.randn(60, 2, generator=DRAW)
CASES = {
    "accuracy": (Accuracy(), SCORES, LABELS, {"accuracy": metrics.accuracy_score(LABELS, SCORES.argmax(1))}),
    "squared error": (
        SquaredError(),
        NUMBERS,
        TARGETS,
        {
            "mse": metrics.mean_squared_error(TARGETS.double(), NUMBERS.double()),
            "r2": metrics.r2_score(TARGETS.double().flatten(), NUMBERS.double().flatten()),
        },
    ),
}


@pytest.mark.parametrize("cuts", [[60], [7, 20, 33], [1] * 60])
@pytest.mark.parametrize("case", CASES)
def test_equals_scikit_learn_however_the_examples_are_cut(case, cuts):
    measure, outputs, targets, expected = CASES[case]
    sums = dict.fromkeys(measure.sums, 0.0)
    for piece, true in zip(outputs.split(cuts), targets.split(cuts), strict=True):
        for name, total in measure.add(piece, true).items():
            sums[name] += total.double().item()
    scores = measure.scores(sums, len(targets))
    assert list(scores) == [column.name for column in measure.columns]
    assert scores == pytest.approx(expected, rel=1e-12)


def test_r2_of_constant_targets_is_not_a_number():
    measure = SquaredError()
    sums = {name: total.item() for name, total in measure.add(torch.zeros(3, 1), torch.ones(3, 1)).items()}
    assert measure.scores(sums, 3) == {"mse": 1.0, "r2": pytest.approx(float("nan"), nan_ok=True)}
