"""Curvature against dense Hessians that autograd and differences make, in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from lets_runner.probe.hessian import Hessian
from lets_runner.probe.objective import Objective
from lets_runner.tasks import Classification

CLASSES, SMOOTHING = 3, 0.1


def convnet():
    """Batch norm with running statistics and an affine map far from where they start."""
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, CLASSES)
    )
    norm = model[1]
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return model


def layer_norm_net():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.LayerNorm(4), nn.SiLU(), nn.Linear(4, CLASSES))


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(3)


def objective(model, *, dtype=torch.float64, batch_size=7):
    """23 examples, so that the last of the batches is smaller."""
    examples = torch.randn(23, 1, 6, 6, dtype=dtype), torch.randint(0, CLASSES, (23,))
    return Objective(model.to(dtype), Classification(label_smoothing=SMOOTHING), examples, batch_size=batch_size)


def smoothed_loss(scores, labels):
    """Label smoothing by its definition (Szegedy et al. 2016): a share of the target goes to all classes alike."""
    log_p = scores - scores.logsumexp(1, keepdim=True)
    target = nn.functional.one_hot(labels, CLASSES) * (1 - SMOOTHING) + SMOOTHING / CLASSES
    return -(target * log_p).sum(1).mean()


def gradient(model, examples):
    inputs, labels = examples
    parts = torch.autograd.grad(smoothed_loss(model(inputs), labels), list(model.parameters()), create_graph=True)
    return torch.cat([part.flatten() for part in parts])


def dense_hessian(model, examples):
    """Every row by itself."""
    rows = []
    for entry in gradient(model.eval(), examples):
        parts = torch.autograd.grad(entry, list(model.parameters()), retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows).detach().numpy()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_top_eigenvalues_are_those_of_the_dense_hessian(dtype, tolerance):
    model = convnet()
    probed = objective(model, dtype=dtype)
    values = Hessian(probed).top_eigenvalues(4)
    inputs, labels = probed.examples
    dense = np.linalg.eigvalsh(dense_hessian(model.double(), (inputs.double(), labels)))
    np.testing.assert_allclose(values, dense[::-1][:4], rtol=tolerance)


def test_trace_lies_within_its_stated_error_which_is_hutchinsons():
    model = convnet()
    probed = objective(model)
    samples = 400
    estimate, error = Hessian(probed, seed=1).trace(samples)
    dense = dense_hessian(model, probed.examples)
    assert abs(estimate - np.trace(dense)) < 3 * error
    # vᵀHv with independent signs v has the variance 2 Σ_{i≠j} H_ij² (Hutchinson 1989)
    variance = 2 * ((dense**2).sum() - (np.diag(dense) ** 2).sum())
    assert error == pytest.approx(np.sqrt(variance / samples), rel=0.2)


def test_trace_is_a_function_of_its_seed_and_leaves_the_random_numbers_alone():
    probed = objective(convnet())
    before = torch.get_rng_state()
    first, again, other = (Hessian(probed, seed=seed).trace(3) for seed in (0, 0, 1))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)


def test_products_with_layer_norm_are_differences_of_the_gradient():
    model = layer_norm_net()
    probed = objective(model)
    weights = [param.detach().clone() for param in model.parameters()]
    direction = torch.randn(sum(weight.numel() for weight in weights), dtype=torch.float64)
    pieces = direction.split([weight.numel() for weight in weights])
    ends = []
    for step in (1e-5, -1e-5):
        for param, weight, piece in zip(model.parameters(), weights, pieces, strict=True):
            param.data = weight + step * piece.view_as(weight)
        ends.append(gradient(model, probed.examples).detach())
    for param, weight in zip(model.parameters(), weights, strict=True):
        param.data = weight
    product = Hessian(probed).operator @ direction
    expected = (ends[0] - ends[1]) / 2e-5
    assert (product - expected).norm() < 1e-6 * expected.norm()


def test_attention_and_a_parameter_without_part_can_be_probed():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.idle = nn.Parameter(torch.ones(2))
            self.score = nn.Linear(6, CLASSES)

        def forward(self, images):
            rows = images.flatten(1, 2)
            return self.score(
                nn.functional.scaled_dot_product_attention(
                    rows, rows @ self.score.weight.T @ self.score.weight, rows
                ).mean(1)
            )

    hessian = Hessian(objective(Attends()))
    image = hessian.operator @ torch.ones(len(hessian), dtype=torch.float64)
    assert torch.equal(image[:2], torch.zeros(2, dtype=torch.float64))
    assert image[2:].abs().min() > 0


def test_as_many_eigenvalues_as_weights_are_refused():
    hessian = Hessian(objective(nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES))))
    with pytest.raises(ValueError, match="eigenvalues=111: must be fewer than the weights, of which there are 111"):
        hessian.top_eigenvalues(111)
