"""No step reads a number back from the device: checked on a CPU by watching for the operators that would."""

import itertools
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lets_runner import (
    ASAM,
    LETS,
    MSAM,
    SAM,
    SAMON,
    FixedRadius,
    GapMatching,
    HorizonLETS,
    LookSAM,
    MomentumSAM,
    Ramp,
    SAMPa,
    VaSSO,
)
from lets_runner.optim.engine.finite import DeferredGuard

READS = {
    "aten._local_scalar_dense",
    "aten.equal",
    "aten.nonzero",
    "aten.is_nonzero",
    "aten.masked_select",
    "aten.unique",
}
RULES = {
    "fixed": FixedRadius,
    "ramp": lambda sam: Ramp(sam, total_steps=10),
    "lets": LETS,
    "lets_sgd": lambda sam: LETS(sam, rho_optimizer="sgd", objective="val"),
    "lets_paper": lambda sam: LETS(sam, curvature="diag", upper_batch="same", gap_ema=0.0, bounds=(0.0, float("inf"))),
    "lets_exact": lambda sam: LETS(sam, curvature="exact", every=2),
    "gap_matching": GapMatching,
    "horizon": lambda sam: HorizonLETS(sam, total_steps=10),
}


class Watch(TorchDispatchMode):
    """Notes every operator that makes the host wait for a value."""

    def __init__(self):
        super().__init__()
        self.reads = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).rsplit(".", 1)[0]
        if name in READS:
            self.reads.append(name)
        return func(*args, **(kwargs or {}))


SETTINGS = {"": {}, "clipped": {"max_grad_norm": 0.1}, "scaled": {"loss_scale": "dynamic"}}


@pytest.mark.parametrize("parts", [1, 2], ids=["", "parts"])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(
    ("rule", "variant"),
    [
        *itertools.product(RULES, [SAM, ASAM, MSAM, LookSAM, VaSSO, SAMON]),
        *itertools.product(["fixed", "ramp"], [MomentumSAM, SAMPa]),
    ],
)
def test_a_step_reads_nothing_back(rule, variant, settings, parts):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
    optimizer = RULES[rule](variant(base, 0.05, model=model, **SETTINGS[settings]))
    optimizer.sam._guard = DeferredGuard(
        torch.device("cpu"), skip=True, scale=optimizer.sam._scale
    )  # as on an accelerator
    x, y = torch.randn(16, 4), torch.arange(16) % 2

    def loss(rows):
        return nn.functional.cross_entropy(model(x[rows]), y[rows])

    closure = [partial(loss, slice(start, start + 16 // parts)) for start in range(0, 16, 16 // parts)]
    optimizer.step(closure, closure)  # the first update waits, once
    with Watch() as watch:
        for _ in range(3):
            optimizer.step(closure, closure)
        assert watch.reads == []
        float(optimizer.last.loss)
    assert watch.reads == ["aten._local_scalar_dense"]
