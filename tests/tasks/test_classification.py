"""Cross entropy and accuracy."""

import math

import pytest
import torch

from lets_runner.tasks import Classification

SCORES = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
LABELS = torch.tensor([0, 2, 0])


def cross_entropy(scores, label, smoothing):
    """By the definition, with the standard library."""
    total = math.log(sum(math.exp(s) for s in scores))
    target = [smoothing / len(scores) + (1 - smoothing) * (index == label) for index in range(len(scores))]
    return sum(t * (total - s) for t, s in zip(target, scores, strict=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_smoothed_and_the_measure_is_not(smoothing):
    task = Classification(label_smoothing=smoothing)
    expected = {s: sum(map(cross_entropy, SCORES.tolist(), LABELS.tolist(), [s] * 3)) / 3 for s in (0.0, smoothing)}
    output, measure = (method(torch.nn.Identity(), (SCORES, LABELS)) for method in (task.loss, task.measure))
    assert output.loss.item() == pytest.approx(expected[smoothing], rel=1e-6)
    assert measure.loss.item() == pytest.approx(expected[0.0], rel=1e-6)
    assert (output.sums["correct"].item(), output.count) == (2, 3)


@pytest.mark.parametrize("smoothing", [-0.1, 1.1])
def test_refuses(smoothing):
    with pytest.raises(ValueError, match="label_smoothing="):
        Classification(label_smoothing=smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_shares_of_classes_are_mixtures_of_their_losses(smoothing):
    shares = torch.tensor([[0.3, 0.7, 0.0], [0.0, 0.4, 0.6], [1.0, 0.0, 0.0]])
    task = Classification(label_smoothing=smoothing)
    expected = [
        sum(share * cross_entropy(scores, label, smoothing) for label, share in enumerate(row))
        for scores, row in zip(SCORES.tolist(), shares.tolist(), strict=True)
    ]
    output = task.loss(torch.nn.Identity(), (SCORES, shares))
    each = task.loss(torch.nn.Identity(), (SCORES, shares), per_sample=True)
    assert output.loss.item() == pytest.approx(sum(expected) / 3, rel=1e-6)
    assert each.loss.tolist() == pytest.approx(expected, rel=1e-6)
    assert (output.sums["correct"].item(), output.count) == (1, 3)  # the largest shares are of 1, 2, 0
    assert output.sums["correct"] == task.loss(torch.nn.Identity(), (SCORES, torch.tensor([1, 2, 0]))).sums["correct"]
