"""Filter-normalised directions and the loss along them."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lets_runner.columns import Column
from lets_runner.probe import figures
from lets_runner.probe.landscape import filter_normalised, landscape
from lets_runner.probe.objective import Objective
from lets_runner.tasks import Classification


@pytest.fixture
def objective():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))
    for param in model.parameters():
        nn.init.normal_(param)
    examples = torch.randn(11, 2, 4, 4), torch.randint(0, 4, (11,))
    return Objective(model, Classification(), examples, batch_size=4)


def test_every_filter_has_the_norm_of_the_filter_that_it_moves(objective):
    convolution, bias, scale, shift, linear, last = filter_normalised(objective.params, seed=(0,))
    weights = [param.detach() for param in objective.params]
    for direction, weight, filters in ((convolution, weights[0], 3), (linear, weights[4], 4)):
        for number in range(filters):
            length = math.sqrt(sum(float(x) ** 2 for x in direction[number].flatten()))
            assert length == pytest.approx(math.sqrt(sum(float(x) ** 2 for x in weight[number].flatten())), rel=1e-5)
    for direction in (bias, scale, shift, last):
        assert not direction.any()


def test_directions_depend_on_the_seed_and_not_on_the_weights(objective):
    first, again, other = (filter_normalised(objective.params, seed=(0, n)) for n in (0, 0, 1))
    doubled = filter_normalised([2 * weight.double() for weight in objective.params], seed=(0, 0))
    assert torch.equal(first[0], again[0])
    torch.testing.assert_close(doubled[0].float(), 2 * first[0])
    assert abs(nn.functional.cosine_similarity(first[0].flatten(), other[0].flatten(), dim=0)) < 0.5


def test_a_filter_of_zeros_stays(objective):
    nn.init.zeros_(objective.params[0][1])
    direction = filter_normalised(objective.params, seed=(0,))[0]
    assert not direction[1].any()
    assert direction[0].any()


def test_the_middle_is_the_loss_itself_and_the_rest_is_where_it_says(objective):
    weights = [param.detach().clone() for param in objective.params]
    directions = [filter_normalised(weights, seed=(0, number)) for number in range(2)]
    surface = landscape(objective, directions, points=5, span=0.5)
    np.testing.assert_allclose(surface["alpha"], [-0.5, -0.25, 0, 0.25, 0.5])
    assert surface["alpha"][2] == surface["beta"][2] == 0
    assert {name: surface[name][2, 2] for name in ("loss", "accuracy")} == objective.measure()
    inputs, labels = objective.examples
    names = [name for name, _ in objective.model.named_parameters()]
    for i, j in ((0, 4), (3, 1)):
        alpha, beta = -0.5 + 0.25 * i, -0.5 + 0.25 * j
        moved = {n: w + alpha * a + beta * b for n, w, a, b in zip(names, weights, *directions, strict=True)}
        scores = torch.func.functional_call(objective.model, moved, (inputs,))
        losses = scores.logsumexp(1) - scores[torch.arange(11), labels]
        assert surface["loss"][i, j] == pytest.approx(losses.mean().item(), rel=1e-5)
        assert surface["accuracy"][i, j] == pytest.approx((scores.argmax(1) == labels).float().mean().item())


def test_a_curve_is_the_middle_row_of_the_surface(objective):
    directions = [filter_normalised(objective.params, seed=(0, number)) for number in range(2)]
    curve = landscape(objective, directions[:1], points=3, span=1.0)
    surface = landscape(objective, directions, points=3, span=1.0)
    assert set(curve) == {"alpha", "loss", "accuracy"}
    np.testing.assert_allclose(curve["loss"], surface["loss"][:, 1], rtol=1e-6)
    assert curve["loss"].std() > 0


def test_the_model_is_as_before_to_the_bit(objective):
    before = {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}
    landscape(objective, [filter_normalised(objective.params, seed=(0,))], points=3, span=1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in objective.model.state_dict().items())


def test_weights_come_back_when_a_measurement_fails(objective, monkeypatch):
    before = [param.detach().clone() for param in objective.params]

    def fail():
        assert not torch.equal(objective.params[0], before[0])
        raise OSError("the examples are gone")

    monkeypatch.setattr(objective, "measure", fail)
    with pytest.raises(OSError, match="gone"):
        landscape(objective, [filter_normalised(objective.params, seed=(0,))], points=3, span=1.0)
    assert all(torch.equal(*pair) for pair in zip(objective.params, before, strict=True))


@pytest.mark.parametrize("loss", [0.0, 2.0, "bowl", "overflow"])
def test_pictures_of_any_landscape(tmp_path, loss):
    places = np.linspace(-1, 1, 5)
    bowl = places[:, None] ** 2 + 3 * places**2
    heights = bowl if isinstance(loss, str) else np.full((5, 5), loss)
    if loss == "overflow":
        heights[0, 0] = np.inf
    surface = {"alpha": places, "beta": places, "loss": heights, "accuracy": np.exp(-bowl)}
    curve = {"alpha": places, "loss": heights[:, 2], "accuracy": np.exp(-bowl[:, 2])}
    figures.draw_curve(curve, tmp_path / "curve", score=Column("accuracy", "%"), title="a run")
    figures.draw_contours(surface, tmp_path / "contours", title="a run")
    figures.draw_surface(surface, tmp_path / "surface", title="a run")
    for name in ("curve", "contours", "surface"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
