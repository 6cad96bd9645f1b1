"""Measures against scikit-learn, and that their sums add up."""

import math

import pytest
import torch
from scipy import stats
from sklearn import metrics

from lets_runner.columns import Column
from lets_runner.measures import F1, MCC, Accuracy, Pearson, PooledMeasure, Spearman, SquaredError
from lets_runner.tasks import Regression

DRAW = torch.Generator().manual_seed(0)
SCORES, LABELS = torch.randn(60, 5, generator=DRAW), torch.randint(0, 5, (60,), generator=DRAW)
NUMBERS, TARGETS = torch.randn(60, 2, generator=DRAW), 3 + torch.randn(60, 2, generator=DRAW)
TWO_SCORES, TWO_LABELS = torch.randn(60, 2, generator=DRAW), (torch.rand(60, generator=DRAW) < 0.3).long()
RATINGS = (torch.rand(60, 1, generator=DRAW) * 25).round() / 5  # of 0 to 5 in fifths, many equal
# Predictions with ties, as under bf16, and of little spread around a mean far from 0: the worst for raw sums.
PREDICTED = (2.5 + 0.01 * RATINGS + 0.02 * torch.randn(60, 1, generator=DRAW)).bfloat16().float()
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
    "f1": (F1(), TWO_SCORES, TWO_LABELS, {"f1": metrics.f1_score(TWO_LABELS, TWO_SCORES.argmax(1))}),
    "mcc": (MCC(), TWO_SCORES, TWO_LABELS, {"mcc": metrics.matthews_corrcoef(TWO_LABELS, TWO_SCORES.argmax(1))}),
    "pearson": (
        Pearson(),
        PREDICTED,
        RATINGS,
        {"pearson": stats.pearsonr(PREDICTED.double().flatten(), RATINGS.double().flatten()).statistic},
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


@pytest.mark.parametrize("cuts", [[60], [7, 20, 33], [1] * 60])
@pytest.mark.parametrize("digits", [7, 1])
def test_spearman_equals_scipy_however_the_examples_are_cut(cuts, digits):
    measure, predicted = Spearman(), torch.round(RATINGS + NUMBERS[:, :1], decimals=digits)
    kept = [measure.keep(*piece) for piece in zip(predicted.split(cuts), RATINGS.split(cuts), strict=True)]
    expected = stats.spearmanr(predicted.flatten(), RATINGS.flatten()).statistic
    assert len(predicted.unique()) < 60 or digits == 7
    assert measure.score(torch.cat(kept)) == {"spearman": pytest.approx(expected, rel=1e-12)}


def of_all(measure, outputs, targets):
    sums = {name: total.double().item() for name, total in measure.add(outputs, targets).items()}
    return measure.scores(sums, len(targets))


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("predicted", [0, 1])
@pytest.mark.parametrize("true", [0, 1])
def test_one_class_alone_is_scored_as_scikit_learn_does(predicted, true):
    outputs, targets = torch.eye(2)[torch.full((5,), predicted)], torch.full((5,), true)
    assert of_all(MCC(), outputs, targets)["mcc"] == metrics.matthews_corrcoef(targets, outputs.argmax(1))
    assert of_all(F1(), outputs, targets)["f1"] == metrics.f1_score(targets, outputs.argmax(1), zero_division=0)


def test_correlations_with_a_constant_are_not_numbers():
    constant = torch.full_like(RATINGS, 1.7)
    assert math.isnan(of_all(Pearson(), constant, RATINGS)["pearson"])
    assert math.isnan(Spearman().score(Spearman().keep(constant, RATINGS))["spearman"])


def test_what_is_pooled_is_not_measured_in_training():
    class Median(Spearman):
        columns = (Column("median"),)

    assert issubclass(Median, PooledMeasure)
    with pytest.raises(ValueError, match=r"measures: a pooled one cannot be measured in training; let it say when="):
        Regression(measures=[SquaredError(), Median()])
