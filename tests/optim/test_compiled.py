"""Models that `torch.compile` has given CUDA graphs of their own: a pass writes over what the one before has left."""

import pytest
import torch
from torch import nn

from lets_runner import GSAM, LETS, SAM, GapMatching, LookSAM


class Model(nn.Module):
    """A linear map; with `in_one_place` every pass leaves its gradient in the same memory."""

    def __init__(self, *, in_one_place):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 15, dtype=torch.float64).view(3, 5))
        if in_one_place:
            place = torch.zeros_like(self.weight)

            def put(weight):
                place.copy_(weight.grad)
                weight.grad = place.detach()

            self.weight.register_post_accumulate_grad_hook(put)

    def forward(self, x):
        return x @ self.weight.t()


X, Y = torch.linspace(-1, 2, 40, dtype=torch.float64).view(8, 5).sin(), torch.arange(8) % 3


def trained(build, *, in_one_place, clones):
    """ρ and the weights after some steps."""
    model = Model(in_one_place=in_one_place)
    optimizer = build(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), model)
    optimizer.sam.clones_gradients = clones
    for _ in range(6):
        optimizer.step(*(lambda y=y: nn.functional.cross_entropy(model(X), y) for y in (Y, (Y + 1) % 3)))
    return optimizer.rho, model.weight.detach()


@pytest.mark.parametrize(
    "build",
    [
        lambda base, model: LETS(SAM(base, model=model)),
        lambda base, model: GapMatching(GSAM(base, model=model)),
        lambda base, model: LookSAM(base, k=2, model=model),
    ],
    ids=["lets", "gap_matching", "looksam"],
)
def test_what_the_next_pass_writes_over_is_kept(build):
    expected = trained(build, in_one_place=False, clones=False)
    kept = trained(build, in_one_place=True, clones=True)
    lost = trained(build, in_one_place=True, clones=False)
    assert kept[0] == expected[0]
    assert torch.equal(kept[1], expected[1])
    assert not torch.equal(lost[1], expected[1])  # so the memory is one, and the test sees it


@pytest.mark.parametrize(
    ("settings", "clones"),
    [({"mode": "reduce-overhead"}, True), ({"mode": "max-autotune"}, True), ({}, False), ({"backend": "eager"}, False)],
)
@pytest.mark.parametrize("way", ["compiled", "in place", "a part"])
def test_a_model_with_cuda_graphs_of_its_own_is_known(way, settings, clones):
    model = nn.Sequential(nn.Linear(2, 2))
    if way == "compiled":
        model = torch.compile(model, **settings)
    else:
        (model if way == "in place" else model[0]).compile(**settings)
    assert SAM(torch.optim.SGD(model.parameters(), lr=0.1), model=model).clones_gradients == clones
