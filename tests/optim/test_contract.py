"""What every variant in conf/sam and every rule in conf/radius must keep to. New ones are found by their yaml."""

import io
import itertools
from pathlib import Path

import pytest
import torch
from conftest import grid
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from lets_runner import FixedRadius

CONF = Path(__file__).parents[2] / "conf"
VARIANTS = sorted(path.stem for path in (CONF / "sam").glob("*.yaml"))
RULES = sorted(path.stem for path in (CONF / "radius").glob("*.yaml"))
PLANNED = ("cosine", "fixed", "learning_rate", "linear", "piecewise", "ramp")
RULES_OF = {"none": ("fixed",), "le_sam": ("fixed",), "momentum_sam": PLANNED, "sampa": PLANNED}  # or every rule
PAIRS = [pair for pair in itertools.product(VARIANTS, RULES) if pair[1] in RULES_OF.get(pair[0], RULES)]
ONE_PASS = ("none", "momentum_sam")

BASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}


def build_sam(name, base, model, **settings):
    return instantiate(composed("sam", name), _partial_=True, _convert_="all")(base, model=model, **settings)


def build_rule(name, sam):
    return instantiate(composed("radius", name), _partial_=True, _convert_="all")(sam)


def composed(group, name, total_steps=40):
    """A choice of a group with what it refers to elsewhere in the configuration."""
    choice = OmegaConf.load(CONF / group / f"{name}.yaml")
    return OmegaConf.create({"seed": 0, "derived": {"total_steps": total_steps}, group: choice})[group]


def make_model(seed=0):
    """BatchNorm, dropout, a shared parameter, one that is frozen and one that no loss reaches."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(6, 12),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(12, 12),
        nn.Linear(12, 12),
        nn.ReLU(),
        nn.Linear(12, 3),
    )
    model[5].weight = model[4].weight
    model[4].bias.requires_grad_(False)
    model.register_parameter("unused", nn.Parameter(torch.ones(4)))
    return model.double()


class Data:
    def __init__(self):
        generator = torch.Generator().manual_seed(7)
        self.x = torch.randn(30, 24, 6, generator=generator, dtype=torch.float64)
        self.y = torch.randint(0, 3, (30, 24), generator=generator)

    def closure(self, model, number):
        return lambda: nn.functional.cross_entropy(model(self.x[number]), self.y[number], reduction="none")


DATA = Data()


def run(optimizer, model, numbers):
    for number in numbers:
        optimizer.step(DATA.closure(model, number), DATA.closure(model, 29 - number))
    return optimizer


def assert_equal_states(first, second):
    for (name, ours), theirs in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "none"])
def test_radius_zero_is_the_base_optimizer(variant, base):
    plain, wrapped = make_model(), make_model()
    reference = BASES[base](plain.parameters())
    optimizer = build_sam(variant, BASES[base](wrapped.parameters()), wrapped, rho=0.0)
    for model, step in ((plain, None), (wrapped, optimizer)):
        torch.manual_seed(3)
        for number in range(6):
            closure = DATA.closure(model, number)
            if step is None:
                reference.zero_grad()
                closure().mean().backward()
                reference.step()
            else:
                step.step(closure)
    assert_equal_states(plain, wrapped)
    assert optimizer.gradient_evaluations == 6


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "none"])
def test_weights_come_back_to_the_bit(variant):
    """With a learning rate of 0 nothing moves, whatever the perturbation did in between."""
    model = make_model()
    before = [p.clone() for p in model.parameters()]
    seen = []
    optimizer = build_sam(variant, torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9), model, rho=0.3)

    def closure():
        seen.append([p.detach().clone() for p in model.parameters()])
        return DATA.closure(model, 0)()

    for _ in range(5):
        optimizer.step(closure)
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert any(not torch.equal(a, b) for pass_ in seen for a, b in zip(pass_, before, strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_closure_that_raises_leaves_weights_and_layers_as_they_were(variant):
    model = make_model()
    optimizer = build_sam(variant, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), model)
    if variant != "none":
        optimizer.perturbs = lambda step: True
    norm = model[1]
    for fatal in (1, 2):
        before = [p.clone() for p in model.parameters()]
        calls = 0

        def closure(fatal=fatal):
            nonlocal calls
            calls += 1
            if calls == fatal:
                raise RuntimeError("no more data")
            return DATA.closure(model, 0)()

        if fatal == 2 and variant in (*ONE_PASS, "sampa"):  # whose second pass comes after the update: see its tests
            continue
        with pytest.raises(RuntimeError, match="no more data"):
            optimizer.step(closure)
        assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
        assert norm.track_running_stats


@pytest.mark.parametrize(("variant", "rule"), PAIRS)
def test_batch_norm_counts_once(variant, rule):
    """Statistics after a step are those of one forward pass, whatever passes the step made besides."""
    model, witness = make_model(), make_model()
    base = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    optimizer = build_rule(rule, build_sam(variant, base, model))
    optimizer.param_groups[0]["lr"] = 0.0
    torch.manual_seed(5)
    run(optimizer, model, range(4))
    for number in range(4):
        DATA.closure(witness, number)()
    assert model[1].num_batches_tracked == 4
    if variant == "momentum_sam":  # whose only pass is at perturbed weights
        return
    assert torch.equal(model[1].running_mean, witness[1].running_mean)
    assert torch.equal(model[1].running_var, witness[1].running_var)


RESUMED = [(*pair, base) for pair in PAIRS for base in BASES]
FEW = [(*pair, base) for pair, base in zip(PAIRS, itertools.cycle(BASES)) if "lets" in pair[1] or pair[0] == "sam"]


@pytest.mark.parametrize(("variant", "rule", "base"), grid(RESUMED, few=FEW))
def test_resumed_equals_uninterrupted(variant, rule, base):
    def build(seed):
        model = make_model(seed)
        return model, build_rule(rule, build_sam(variant, BASES[base](model.parameters()), model))

    model, optimizer = build(0)
    torch.manual_seed(11)
    run(optimizer, model, range(7))
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict(), torch.get_rng_state()], file)
    run(optimizer, model, range(7, 14))

    file.seek(0)
    weights, state, random = torch.load(file, weights_only=True)
    resumed, other = build(1)
    resumed.load_state_dict(weights)
    other.load_state_dict(state)
    torch.set_rng_state(random)
    run(other, resumed, range(7, 14))
    assert_equal_states(model, resumed)
    assert optimizer.rho == other.rho
    assert optimizer.gradient_evaluations == other.gradient_evaluations


@pytest.mark.parametrize("rule", RULES)
def test_runs_repeat_and_the_radius_moves_where_it_should(rule):
    results = []
    for _ in range(2):
        model = make_model()
        optimizer = build_rule(rule, build_sam("sam", BASES["sgd"](model.parameters()), model))
        torch.manual_seed(2)
        results.append((run(optimizer, model, range(10)), model))
    (first, model), (second, twin) = results
    assert_equal_states(model, twin)
    assert first.rho == second.rho
    assert (first.rho != 0.05) == (rule not in ("fixed", "learning_rate"))  # the learning rate is constant here


@pytest.mark.parametrize(("variant", "rule"), PAIRS)
def test_counts_the_gradient_evaluations_that_ran(variant, rule):
    model = make_model()
    optimizer = build_rule(rule, build_sam(variant, BASES["sgd"](model.parameters()), model))
    backwards = 0

    def count(_):
        nonlocal backwards
        backwards += 1

    def closure(number):
        def loss():
            value = DATA.closure(model, number)()
            if value.requires_grad:
                value.register_hook(count)
            return value

        return loss

    for number in range(12):
        optimizer.step(closure(number), closure(29 - number))
    assert optimizer.gradient_evaluations == backwards
    upper = {"lets": 1, "lets_paper": 2, "horizon": 1}.get(rule, 0)
    assert backwards == 12 + (0 if variant == "momentum_sam" else 1 + upper) * optimizer.sam.perturbed_steps


def test_a_rule_around_a_rule_is_refused():
    model = make_model()
    inner = FixedRadius(build_sam("sam", BASES["sgd"](model.parameters()), model))
    with pytest.raises(TypeError, match="wraps a SAM variant"):
        FixedRadius(inner)
