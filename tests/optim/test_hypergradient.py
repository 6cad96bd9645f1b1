"""The exact hypergradient against central differences of F(ρ) through the whole step, which NumPy takes."""

import copy
import math

import pytest
import reference
import torch

from lets_runner import ASAM, LETS, SAM

EPS = 1e-2  # with a small one Adam's first update is a sign, and its derivative below what differences resolve
BASES = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.1), lambda: reference.SGD(0.1)),
    "momentum": (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
        lambda: reference.SGD(0.1, 0.9, weight_decay=1e-2),
    ),
    "dampened": (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3),
        lambda: reference.SGD(0.1, 0.9, dampening=0.3),
    ),
    "nesterov": (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        lambda: reference.SGD(0.1, 0.9, nesterov=True),
    ),
    "maximize": (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, maximize=True),
        lambda: reference.SGD(0.1, 0.9, maximize=True),
    ),
    "adamw": (
        lambda p: torch.optim.AdamW(p, lr=0.01, eps=EPS, weight_decay=0.1),
        lambda: reference.Adam(0.01, eps=EPS, weight_decay=0.1, decoupled=True),
    ),
    "adamw_fused": (
        lambda p: torch.optim.AdamW(p, lr=0.01, eps=EPS, weight_decay=0.1, fused=True),
        lambda: reference.Adam(0.01, eps=EPS, weight_decay=0.1, decoupled=True),
    ),
    "adam_l2": (
        lambda p: torch.optim.Adam(p, lr=0.01, eps=EPS, weight_decay=0.1),
        lambda: reference.Adam(0.01, eps=EPS, weight_decay=0.1),
    ),
    "amsgrad": (
        lambda p: torch.optim.Adam(p, lr=0.01, eps=EPS, amsgrad=True, maximize=True),
        lambda: reference.Adam(0.01, eps=EPS, amsgrad=True, maximize=True),
    ),
}
VARIANTS = {"sam": (SAM, 0.1, reference.sam_direction), "asam": (ASAM, 0.3, reference.asam_direction)}
PLAIN = {"gap_ema": 0.0, "lr_invariant": False, "rho_eps": 1e-8, "bounds": (0.0, math.inf), "rho_lr": 0.0}


def richardson(function, x, h):
    """The derivative by central differences, extrapolated: error O(h⁴)."""

    def central(step):
        return (function(x + step) - function(x - step)) / (2 * step)

    return (4 * central(h / 2) - central(h)) / 3


@pytest.mark.parametrize("warm", [0, 3], ids=["first", "later"])
@pytest.mark.parametrize("limit", [None, 0.1], ids=["", "clipped"])
@pytest.mark.parametrize("upper_batch", ["same", "next"])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_exact_equals_central_differences(problem, variant, base, upper_batch, limit, warm):
    cls, rho, direction = VARIANTS[variant]
    build, reference_base = BASES[base]
    sam = cls(build(problem.params), rho, max_grad_norm=limit)
    params, oracle = problem.numpy_params(), reference_base()
    for number in range(warm):
        sam.step(problem.closure(number))
        params = reference.sam_step(oracle, params, problem.numpy_batch(number), rho, direction, limit)

    optimizer = LETS(sam, curvature="exact", upper_batch=upper_batch, **PLAIN)
    optimizer.step(problem.closure(10), problem.closure(11))
    if upper_batch == "next":
        optimizer.step(problem.closure(12), problem.closure(11))

    def objective(rho):
        after = reference.sam_step(copy.deepcopy(oracle), params, problem.numpy_batch(10), rho, direction, limit)
        val = reference.loss_and_gradient(after, problem.numpy_batch(11))[0]
        train = reference.loss_and_gradient(after, problem.numpy_batch(10 if upper_batch == "same" else 12))[0]
        return 0.5 * (val - train) ** 2

    expected = richardson(objective, rho, 1e-2 * rho)
    actual = optimizer.last.hypergradient.item()
    assert actual == pytest.approx(expected, rel=1e-6, abs=1e-14)
    assert abs(actual) > 1e-9


def with_dropout():
    return [torch.nn.Linear(6, 20), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(20, 2)]


def with_attention():
    block = torch.nn.TransformerEncoderLayer(2, 1, 8, dropout=0.0, activation="gelu", batch_first=True)
    return [torch.nn.Unflatten(1, (3, 2)), block, torch.nn.Flatten(), torch.nn.Linear(6, 2)]


@pytest.mark.parametrize("layers", [with_dropout, with_attention])
def test_exact_goes_through_dropout_and_attention(layers):
    """The Hessian-vector product is that of the loss with this step's mask, and fused attention does not stop it."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(*layers()).double()
    x, y = torch.randn(32, 6, dtype=torch.float64), torch.randint(0, 2, (32,))

    def closure():
        return torch.nn.functional.cross_entropy(model(x), y)

    products = {}
    for curvature in ("exact", "secant"):
        twin = copy.deepcopy(model.state_dict())
        optimizer = LETS(SAM(torch.optim.SGD(model.parameters(), lr=0.1), 1e-3), curvature=curvature)
        torch.manual_seed(1)
        optimizer.step(closure, closure)
        products[curvature] = torch.cat([u.flatten() for u in optimizer.state_dict()["_pending_response"]["tensors"]])
        model.load_state_dict(twin)
    # On a small ball the chord is the tangent, if and only if all passes drew the same mask.
    error = (products["exact"] - products["secant"]).norm() / products["exact"].norm()
    assert error < 1e-2
