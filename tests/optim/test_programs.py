"""Variants against what their authors' programs compute, written anew: ten steps in float64, on a network with a norm.

The programs are published on GitHub, and their equations written down here by hand: SamsungLabs/ASAM asam.py,
nblt/F-SAM utils.py, dydjw9/Efficient_SAM utils/Esam.py.
"""

import random

import pytest
import torch
from torch import nn

from lets_runner import ASAM, ESAM, FSAM, SAM

STEPS, EXAMPLES = 10, 12
RATE, MOMENTUM, DECAY = 0.1, 0.9, 1e-2


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


MODEL = network()
NAMES = [name for name, _ in MODEL.named_parameters()]
GENERATOR = torch.Generator().manual_seed(1)
X = torch.randn(STEPS, EXAMPLES, 5, generator=GENERATOR, dtype=torch.float64)
Y = torch.randint(0, 3, (STEPS, EXAMPLES), generator=GENERATOR)


def losses(weights, number):
    """Of every example of a batch, at any weights."""
    scores = torch.func.functional_call(MODEL, dict(zip(NAMES, weights, strict=True)), (X[number],))
    return nn.functional.cross_entropy(scores, Y[number], reduction="none")


def gradient(weights, number, rows=slice(None)):
    weights = [w.detach().requires_grad_() for w in weights]
    return torch.autograd.grad(losses(weights, number)[rows].mean(), weights)


def moved(weights, by, factor=1.0):
    return [w + factor * d for w, d in zip(weights, by, strict=True)]


def length(tensors):
    return torch.cat([t.flatten() for t in tensors]).norm()


class Momentum:
    """SGD as all of these programs use it."""

    def __init__(self, decay=DECAY):
        self.decay, self.buffers = decay, None

    def step(self, weights, gradient):
        gradient = moved(gradient, weights, self.decay)
        self.buffers = gradient if self.buffers is None else moved(gradient, self.buffers, MOMENTUM)
        return moved(weights, self.buffers, -RATE)


def asam(rho=0.5, eta=0.01):
    """Every parameter with "weight" in its name is scaled, LayerNorm's scale too."""
    base = Momentum()

    def step(weights, number):
        g = gradient(weights, number)
        scale = [w.abs() + eta if "weight" in n else torch.ones_like(w) for n, w in zip(NAMES, weights, strict=True)]
        once = [s * d for s, d in zip(scale, g, strict=True)]
        twice = [s * d for s, d in zip(scale, once, strict=True)]
        return base.step(weights, gradient(moved(weights, twice, rho / length(once)), number))

    return step


def f_sam(rho=0.1, sigma=1.0, decay=0.95):
    """The average starts as the first gradient, and what is taken out is the average of before."""
    base, average = Momentum(), None

    def step(weights, number):
        nonlocal average
        g = gradient(weights, number)
        if average is None:
            along, average = g, g
        else:
            along = moved(g, average, -sigma)
            average = [decay * m + (1 - decay) * d for m, d in zip(average, g, strict=True)]
        return base.step(weights, gradient(moved(weights, along, rho / length(along)), number))

    return step


def esam(rho=0.05, beta=0.6, gamma=0.5, seed=0):
    """Tensors are drawn at the end of a step, for the first backward pass of the next one."""
    base, kept = Momentum(), [True] * len(NAMES)

    def step(weights, number):
        nonlocal kept
        before = losses(weights, number)
        g = [d if keep else torch.zeros_like(d) for d, keep in zip(gradient(weights, number), kept, strict=True)]
        there = moved(weights, g, rho / (length(g) * beta))
        rise = losses(there, number) - before
        cutoff = rise.sort(descending=True).values[int(EXAMPLES * gamma) - 1]
        draw = random.Random(f"{seed} {number + 2}")  # what a step draws is for the next, and numbers begin with 1
        kept = [draw.random() < beta for _ in NAMES]
        return base.step(weights, gradient(there, number, rise > cutoff))

    return step


PROGRAMS = {
    "ASAM": (asam, lambda base, model: ASAM(base, scope="named", model=model)),
    "F-SAM": (f_sam, lambda base, model: FSAM(base, follow="program", model=model)),
    "ESAM": (esam, lambda base, model: ESAM(base, follow="program", model=model)),
}
OWN = {
    "ASAM": lambda base, model: ASAM(base, model=model),
    "F-SAM": lambda base, model: FSAM(base, model=model),
    "ESAM": lambda base, model: ESAM(base, model=model),
}


def trajectory(build, decay=DECAY):
    model = network()
    optimizer = build(torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=decay), model)
    for number in range(STEPS):
        optimizer.step(lambda n=number: nn.functional.cross_entropy(model(X[n]), Y[n], reduction="none"))
        yield [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("name", PROGRAMS)
def test_equals_the_program(name):
    program, build = PROGRAMS[name]
    step, weights = program(), [p.detach() for p in network().parameters()]
    for number, ours in enumerate(trajectory(build)):
        weights = step(weights, number)
        for mine, theirs in zip(ours, weights, strict=True):
            torch.testing.assert_close(mine, theirs.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", OWN)
def test_which_is_not_what_the_equations_give(name):
    *_, ours = trajectory(OWN[name])
    *_, theirs = trajectory(PROGRAMS[name][1])
    *_, plain = trajectory(lambda base, model: SAM(base, model=model))
    assert length(moved(ours, theirs, -1)) > 1e-5
    assert length(moved(theirs, plain, -1)) > 1e-5


def test_names_need_a_model():
    with pytest.raises(ValueError, match="scope=named goes by the names of parameters: ASAM needs model="):
        ASAM(torch.optim.SGD(network().parameters(), lr=RATE), scope="named")
