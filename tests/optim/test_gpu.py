"""On an accelerator: nothing in a step waits for it, and it computes what the CPU does."""

import copy

import pytest
import torch
from torch import nn

from lets_runner import ASAM, LETS, MSAM, SAM, FixedRadius, GapMatching, GraphedStep, LookSAM, NonFiniteError
from lets_runner.optim.graphs.eager import EagerStep

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

RULES = {
    "lets": LETS,
    "lets_same": lambda sam: LETS(sam, upper_batch="same", curvature="diag"),
    "gap_matching": GapMatching,
}
BASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "foreach": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
}


def build(device, rule, base, variant=SAM, dtype=torch.float64):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3)).to(device, dtype)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(10, 24, 6, generator=generator, dtype=dtype).to(device)
    y = torch.randint(0, 3, (10, 24), generator=generator).to(device)
    optimizer = RULES[rule](variant(BASES[base](model.parameters()), model=model))

    def closure(number, factor=1.0):
        return lambda: nn.functional.cross_entropy(model(x[number]), y[number]) * factor

    return model, optimizer, closure


@pytest.mark.parametrize("variant", [SAM, ASAM])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("rule", RULES)
def test_equals_the_cpu(rule, base, variant):
    results = []
    for device in ("cpu", "cuda"):
        model, optimizer, closure = build(device, rule, base, variant)
        for number in range(6):
            optimizer.step(closure(number), closure(9 - number))
        results.append((optimizer.rho, [p.detach().cpu() for p in model.parameters()]))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-8)
    for ours, theirs in zip(*(weights for _, weights in results), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("rule", RULES)
def test_no_step_waits_for_the_device(rule, base):
    _, optimizer, closure = build("cuda", rule, base, dtype=torch.float32)
    for number in range(3):
        optimizer.step(closure(number), closure(9 - number))
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(3, 6):
            optimizer.step(closure(number), closure(9 - number))
        with pytest.raises(RuntimeError, match="synchroniz"):
            float(optimizer.last.loss)  # the watch works: this does wait
    finally:
        torch.cuda.set_sync_debug_mode(before)


@pytest.mark.parametrize("base", BASES)
def test_a_bad_step_leaves_the_weights_and_is_reported_soon(base):
    model, optimizer, closure = build("cuda", "lets", base)
    for number in range(2):
        optimizer.step(closure(number), closure(9 - number))
    before = copy.deepcopy([p.detach() for p in model.parameters()])
    with pytest.raises(NonFiniteError, match="step 3: the first pass"):
        optimizer.step(closure(2, float("inf")), closure(9))
        for _ in range(20):
            torch.cuda.synchronize()
            optimizer.step(closure(3), closure(9))
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def steps(rule, variant, *, graphed, nonfinite="raise"):
    """ρ, losses and weights after 24 steps whose learning rates float32 has exactly."""
    torch.manual_seed(0)
    layers = nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3)
    model = nn.Sequential(*layers).to("cuda")
    x = torch.randn(48, 24, 6, generator=torch.Generator().manual_seed(1)).to("cuda")
    y = (x.sum(2) > 0).long()
    base = torch.optim.SGD(model.parameters(), lr=2.0**-5, momentum=0.9, fused=True)
    optimizer = rule(variant(base, model=model))

    def loss(batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    step = GraphedStep(optimizer, loss, loss, strict=True) if graphed else EagerStep(optimizer, loss, loss)
    losses = []
    for number in range(24):
        base.param_groups[0]["lr"] = 2.0**-5 * (1 - number / 64)
        other = 47 - number
        losses.append(step((x[number], y[number]), (x[other], y[other])))
    optimizer.settle()
    assert not graphed or step.graphs
    return optimizer.rho, torch.stack(losses), [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("variant", [SAM, ASAM, LookSAM, MSAM])
@pytest.mark.parametrize(
    "rule", [FixedRadius, LETS, lambda sam: LETS(sam, every=3), lambda sam: LETS(sam, curvature="exact"), GapMatching]
)
def test_graphs_compute_what_eager_steps_do(rule, variant):
    (rho, losses, weights), (other_rho, other_losses, others) = (
        steps(rule, variant, graphed=graphed) for graphed in (False, True)
    )
    assert rho == pytest.approx(other_rho, rel=1e-5)
    torch.testing.assert_close(losses, other_losses, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(weights, others, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_replay_names_the_step_that_was_bad():
    model = nn.Linear(4, 2).to("cuda")
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True), model=model)
    step = GraphedStep(optimizer, lambda batch: model(batch).square().mean(), strict=True)
    for _ in range(9):
        step(torch.ones(8, 4, device="cuda"))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(NonFiniteError, match="step 10: the first pass"):
        for number in range(20):
            step(torch.full((8, 4), float("inf") if number == 0 else 1.0, device="cuda"))
            torch.cuda.synchronize()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_loss_that_waits_for_the_device_is_told_of():
    model = nn.Linear(4, 2).to("cuda")
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True), model=model)

    def loss(batch):
        value = model(batch).square().mean()
        return value if float(value) >= 0 else -value

    step = GraphedStep(optimizer, loss)
    batch = torch.ones(8, 4, device="cuda")
    with pytest.warns(UserWarning, match=r"a step waits for the device, at .*test_gpu"):
        [step(batch) for _ in range(6)]
    assert optimizer.steps == 6
