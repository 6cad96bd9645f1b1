"""SAM-ON: which layers it perturbs, and by how much."""

import pytest
import torch
from optim.programs import NAMES, closure, length, moved, network, sgd
from torch import nn

from lets_runner import LETS, SAMON


def test_sam_on_perturbs_norms_alone_by_all_of_rho():
    model, seen = network(), []
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = LETS(SAMON(sgd(model.parameters()), 0.3, model=model))

    def loss():
        seen.append(moved([p.detach() for p in model.parameters()], before, -1))
        return closure(model, 0)()

    optimizer.step(loss, closure(model, 1))
    assert [bool(d.any()) for d in seen[1]] == [name.startswith("1.") for name in NAMES]
    assert float(length(seen[1])) == pytest.approx(0.3, rel=1e-12)


class RMS(nn.Module):
    """A norm of nobody's library, with a scale of its own and a layer that is none."""

    def __init__(self):
        super().__init__()
        self.scale, self.inner = nn.Parameter(torch.ones(3)), nn.Linear(3, 3)


class LlamaRMSNorm(RMS):
    pass


def test_sam_on_knows_norms_by_their_class():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.GroupNorm(1, 2), LlamaRMSNorm(), RMS(), nn.Conv2d(1, 1, 1))
    found = SAMON(sgd(model.parameters()), model=model)._of_norms
    assert {name for name, p in model.named_parameters() if p in found} == {
        *("0.weight", "0.bias", "1.weight", "1.bias"),
        "2.scale",
    }


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda base, model: SAMON(base), "SAM-ON finds normalization layers in the model: it needs model="),
        (lambda base, model: SAMON(base, model=model[3]), "this model trains none: take one that has them"),
        (lambda base, model: SAMON(base, xi=-1.0, model=model), "xi=-1.0: must be at least 0"),
    ],
)
def test_refuses(build, message):
    model = network()
    with pytest.raises(ValueError, match=message):
        build(sgd(model.parameters()), model)
