"""Calibration against torchmetrics and scikit-learn, and that its sums add up."""

import pytest
import torch
from sklearn import metrics
from torchmetrics.classification import MulticlassCalibrationError

from lets_runner.measures import ECE, NLL, Brier

DRAW = torch.Generator().manual_seed(0)
SCORES = 2 * torch.randn(300, 5, generator=DRAW, dtype=torch.float64)
LABELS = torch.randint(0, 5, (300,), generator=DRAW)
SHARES = SCORES.softmax(1)
CASES = {
    "nll": (NLL(), metrics.log_loss(LABELS, SHARES, labels=range(5))),
    "brier": (
        Brier(),
        sum(metrics.mean_squared_error((label == LABELS).double(), SHARES[:, label]) for label in range(5)),
    ),
    "ece": (ECE(), MulticlassCalibrationError(5, n_bins=15)(SHARES, LABELS).item()),
    "ece of four": (ECE(bins=4), MulticlassCalibrationError(5, n_bins=4)(SHARES, LABELS).item()),
}


@pytest.mark.parametrize("cuts", [[300], [7, 200, 93], [1] * 300])
@pytest.mark.parametrize("case", CASES)
def test_equals_other_libraries_however_the_examples_are_cut(case, cuts):
    measure, expected = CASES[case]
    sums = dict.fromkeys(measure.sums, 0.0)
    for piece, true in zip(SCORES.split(cuts), LABELS.split(cuts), strict=True):
        for name, total in measure.add(piece, true).items():
            sums[name] += total.double().item()
    assert measure.scores(sums, 300) == {measure.columns[0].name: pytest.approx(expected, rel=1e-6)}


def test_a_sure_network_that_is_always_right_is_calibrated():
    outputs = 1000 * torch.eye(3)
    sums = {name: total.item() for name, total in ECE().add(outputs, torch.arange(3)).items()}
    assert ECE().scores(sums, 3) == {"ece": 0}
    sums = {name: total.item() for name, total in ECE().add(outputs, torch.tensor([1, 2, 0])).items()}
    assert ECE().scores(sums, 3) == {"ece": 1}


def test_bins_are_checked():
    with pytest.raises(ValueError, match="bins=0: must be at least 1"):
        ECE(bins=0)
