"""What the programs of variants compute, on a network with a norm: a step takes weights and a batch's number.

The programs are published on GitHub, and their equations written down here by hand: google-research/sam
sam_jax/training_utils/flax_training.py, SamsungLabs/ASAM asam.py, juntang-zhuang/GSAM gsam/gsam.py, BingcongLi/VaSSO
solver/vasso.py, intelligent-machine-learning/dlrover atorch/atorch/optimizers/wsam.py, nblt/F-SAM utils.py,
dydjw9/Efficient_SAM utils/Esam.py, lesam.py of the authors of LE-SAM, mueller-mp/SAM-ON sam_on.py, MarlonBecker/MSAM
optimizer/msam.py and adamW_msam.py, LIONS-EPFL/SAMPa train.py. LookSAM's is not by its authors:
Leminhbinh0209/LookSAM looksam.py. What they add to divisors, 1e-12 and in VaSSO's case 1e-7, is left out.

No program was found of FisherSAM, RST and AE-SAM. They are compared with their equations alone, in `test_variants`.
"""

import math
import random

import torch
from torch import nn

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
        self.decay, self.rate, self.buffers = decay, RATE, None

    def step(self, weights, gradient):
        gradient = moved(gradient, weights, self.decay)
        self.buffers = gradient if self.buffers is None else moved(gradient, self.buffers, MOMENTUM)
        return moved(weights, self.buffers, -self.rate)


def sam(rho=0.05):
    base = Momentum()

    def step(weights, number):
        g = gradient(weights, number)
        return base.step(weights, gradient(moved(weights, g, rho / length(g)), number))

    return step


def m_sam(rho=0.05, m=4):
    """A device for every m examples, which perturbs along its own gradient; their mean is descended along."""
    base = Momentum()

    def device(weights, number, rows):
        g = gradient(weights, number, rows)
        return gradient(moved(weights, g, rho / length(g)), number, rows)

    def step(weights, number):
        each = [device(weights, number, slice(first, first + m)) for first in range(0, EXAMPLES, m)]
        return base.step(weights, [torch.stack(parts).mean(0) for parts in zip(*each, strict=True)])

    return step


def gsam(rho_max=0.2, rho_min=0.1, alpha=0.4):
    """Decomposed by the cosine; the radius goes with the learning rate, between 0 and the one of the beginning."""
    base = Momentum()

    def step(weights, number):
        base.rate = RATE * (1 - number / STEPS)
        rho = rho_min + (rho_max - rho_min) * base.rate / RATE
        g = gradient(weights, number)
        robust = gradient(moved(weights, g, rho / length(g)), number)
        cosine = sum((a * b).sum() for a, b in zip(g, robust, strict=True)) / (length(g) * length(robust))
        vertical = moved(g, robust, -cosine * length(g) / length(robust))
        return base.step(weights, moved(robust, vertical, -alpha))

    return step


def wsam(rho=0.05, gamma=0.9, decouple=True):
    base, alpha = Momentum(), gamma / (1 - gamma)

    def step(weights, number):
        g = gradient(weights, number)
        robust = gradient(moved(weights, g, rho / length(g)), number)
        if decouple:
            return moved(base.step(weights, g), moved(robust, g, -1), -RATE * alpha)
        return base.step(weights, [alpha * r + (1 - alpha) * d for r, d in zip(robust, g, strict=True)])

    return step


def vasso(rho=0.05, theta=0.9):
    base, average = Momentum(), None

    def step(weights, number):
        nonlocal average
        g = gradient(weights, number)
        before = g if average is None else average
        average = [(1 - theta) * d + theta * new for d, new in zip(before, g, strict=True)]
        return base.step(weights, gradient(moved(weights, average, rho / length(average)), number))

    return step


def looksam(rho=0.1, alpha=0.7, k=5):
    """Decomposed by the cosine, norms over all parameters together."""
    base, vertical = Momentum(), None

    def step(weights, number):
        nonlocal vertical
        g = gradient(weights, number)
        if number % k:
            return base.step(weights, moved(g, vertical, alpha * length(g) / length(vertical)))
        robust = gradient(moved(weights, g, rho / length(g)), number)
        cosine = sum((a * b).sum() for a, b in zip(g, robust, strict=True)) / (length(g) * length(robust))
        vertical = moved(robust, g, -cosine * length(robust) / length(g))
        return base.step(weights, robust)

    return step


def le_sam(sigma=0.35, rho_max=999.0):
    base = Momentum()

    def step(weights, number):
        g = gradient(weights, number)
        rho = min(sigma / length(g), rho_max)
        return base.step(weights, gradient(moved(weights, g, rho / length(g)), number))

    return step


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


def sam_on(rho=0.5, eta=None):
    """The norm is that of the perturbed parameters, LayerNorm's scale and shift; `eta` for ASAM on both."""
    base, perturbed = Momentum(), [name.startswith("1.") for name in NAMES]

    def step(weights, number):
        g = gradient(weights, number)
        scale = [torch.ones_like(w) if eta is None else w.abs() + eta for w in weights]
        once = [s * d * p for s, d, p in zip(scale, g, perturbed, strict=True)]
        twice = [s * d for s, d in zip(scale, once, strict=True)]
        return base.step(weights, gradient(moved(weights, twice, rho / length(once)), number))

    return step


def momentum_sam(rho=0.3):
    """The weights stand at the perturbed place between steps; this is where they are without that."""
    momentum = None

    def step(weights, number):
        nonlocal momentum
        there = weights if momentum is None else moved(weights, momentum, -rho / length(momentum))
        g = gradient(there, number)
        momentum = g if momentum is None else moved(g, momentum, MOMENTUM)
        return moved(weights, momentum, -RATE)

    return step


def adam_momentum_sam(rho=0.3, beta1=0.9, beta2=0.999, eps=1e-8):
    first = second = [torch.zeros_like(p) for p in MODEL.parameters()]

    def step(weights, number):
        nonlocal first, second
        there = weights if number == 0 else moved(weights, first, -rho / length(first))
        g = gradient(there, number)
        first = [beta1 * m + (1 - beta1) * d for m, d in zip(first, g, strict=True)]
        second = [beta2 * v + (1 - beta2) * d**2 for v, d in zip(second, g, strict=True)]
        one, two = 1 - beta1 ** (number + 1), math.sqrt(1 - beta2 ** (number + 1))
        return [w - RATE / one * m / (v.sqrt() / two + eps) for w, m, v in zip(weights, first, second, strict=True)]

    return step


def sampa(rho=0.1, share=0.2):
    """A process for each gradient: one perturbs, on the batch of before, and the other looks ahead, on the new one.

    What both descend along is the sum; the gradient ahead is what is left of it without the perturbed one's part.
    """
    base = Momentum()
    total = part = [torch.zeros_like(p) for p in MODEL.parameters()]

    def step(weights, number):
        nonlocal total, part
        ahead = [(t - p) / share for t, p in zip(total, part, strict=True)]
        move = ahead if base.buffers is None else moved(moved(ahead, weights, DECAY), base.buffers, MOMENTUM)
        there = moved(weights, ahead, rho / (length(ahead) + 1e-12))
        part = [(1 - share) * d for d in gradient(there, max(0, number - 1))]
        other = [share * d for d in gradient(moved(weights, move, -RATE), number)]
        total = moved(part, other)
        return base.step(weights, total)

    return step


def sgd(parameters, decay=DECAY):
    return torch.optim.SGD(parameters, lr=RATE, momentum=MOMENTUM, weight_decay=decay)


def closure(model, number, rows=slice(None)):
    return lambda: nn.functional.cross_entropy(model(X[number][rows]), Y[number][rows], reduction="none")


def closures(model, number, size):
    """Of a batch, in shards of `size` where there is one."""
    size = size or EXAMPLES
    return [closure(model, number, slice(first, first + size)) for first in range(0, EXAMPLES, size)]
