"""Variants against what their authors' programs compute, written anew in `programs`: ten steps in float64."""

import pytest
import torch
from optim import programs
from optim.programs import RATE, STEPS, closure, closures, length, losses, moved, network, sgd

from lets_runner import ASAM, ESAM, FSAM, GSAM, LESAM, LETS, MSAM, SAM, SAMON, WSAM, LookSAM, MomentumSAM, SAMPa, VaSSO

PROGRAMS = {
    "SAM": (programs.sam, lambda base, model: SAM(base, model=model)),
    "m-SAM": (programs.m_sam, lambda base, model: MSAM(base, m=4, model=model)),
    "WSAM": (programs.wsam, lambda base, model: WSAM(base, model=model)),
    "WSAM, coupled": (
        lambda: programs.wsam(decouple=False),
        lambda base, model: WSAM(base, decoupled=False, model=model),
    ),
    "VaSSO": (programs.vasso, lambda base, model: VaSSO(base, model=model)),
    "LookSAM": (programs.looksam, lambda base, model: LookSAM(base, 0.1, k=5, model=model)),
    "LE-SAM": (programs.le_sam, lambda base, model: LESAM(base, 999.0, sigma=0.35, model=model)),
    "LE-SAM, capped": (lambda: programs.le_sam(rho_max=0.2), lambda base, model: LESAM(base, sigma=0.35, model=model)),
    "ASAM": (programs.asam, lambda base, model: ASAM(base, scope="named", model=model)),
    "F-SAM": (programs.f_sam, lambda base, model: FSAM(base, follow="program", model=model)),
    "ESAM": (programs.esam, lambda base, model: ESAM(base, model=model)),
    "SAM-ON": (programs.sam_on, lambda base, model: SAMON(base, model=model)),
    "ASAM-ON": (
        lambda: programs.sam_on(2.0, 0.01),
        lambda base, model: SAMON(base, 2.0, adaptive=True, xi=0.01, model=model),
    ),
    "SAMPa": (programs.sampa, lambda base, model: SAMPa(base, model=model)),
}
OWN = {
    "ASAM": lambda base, model: ASAM(base, model=model),
    "F-SAM": lambda base, model: FSAM(base, model=model),
    "ESAM": lambda base, model: ESAM(base, follow="paper", model=model),
}


def trajectory(build, base=sgd, schedule=lambda number: RATE):
    """The weights after every step."""
    model = network()
    optimizer = build(base(model.parameters()), model)
    for number in range(STEPS):
        optimizer.param_groups[0]["lr"] = schedule(number)
        optimizer.step(closures(model, number, optimizer.shard_size))
        yield [p.detach().clone() for p in model.parameters()]


def assert_equal(step, ours):
    weights = [p.detach() for p in network().parameters()]
    for number, mine in enumerate(ours):
        weights = [w.detach() for w in step(weights, number)]
        for a, b in zip(mine, weights, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", PROGRAMS)
def test_equals_the_program(name):
    program, build = PROGRAMS[name]
    assert_equal(program(), trajectory(build))


def test_gsam_equals_its_program_with_a_radius_tied_to_the_learning_rate():
    def build(base, model):
        return GSAM(base, 0.2, rho_min=0.1, alpha=0.4, model=model)

    assert_equal(programs.gsam(), trajectory(build, schedule=lambda number: RATE * (1 - number / STEPS)))


def test_momentum_sam_equals_its_programs_without_weight_decay():
    def build(base, model):
        return MomentumSAM(base, model=model)

    assert_equal(programs.momentum_sam(), trajectory(build, lambda p: sgd(p, decay=0)))
    assert_equal(
        programs.adam_momentum_sam(), trajectory(build, lambda p: torch.optim.AdamW(p, lr=RATE, weight_decay=0))
    )


LEARNED = {
    "ASAM": (programs.asam, lambda base, model: ASAM(base, scope="named", model=model)),
    "SAM-ON": (programs.sam_on, lambda base, model: SAMON(base, model=model)),
    "ASAM-ON": (
        lambda rho=0.5: programs.sam_on(rho, 0.01),
        lambda base, model: SAMON(base, adaptive=True, xi=0.01, model=model),
    ),
}


@pytest.mark.parametrize("name", LEARNED)
def test_lets_learns_from_how_the_programs_step_depends_on_the_radius(name):
    """The exact hypergradient against central differences of the gap after a first step of the program."""
    program, build = LEARNED[name]
    model = network()
    optimizer = LETS(build(sgd(model.parameters()), model), curvature="exact", upper_batch="same")
    optimizer.step(closure(model, 0), closure(model, 1))

    def objective(rho):
        after = program(rho)([p.detach() for p in network().parameters()], 0)
        return 0.5 * float(losses(after, 1).mean() - losses(after, 0).mean()) ** 2

    def central(h):
        return (objective(0.5 + h) - objective(0.5 - h)) / (2 * h)

    expected = (4 * central(1e-3) - central(2e-3)) / 3
    assert optimizer.last.hypergradient.item() == pytest.approx(expected, rel=1e-6)
    assert abs(expected) > 1e-9


@pytest.mark.parametrize("name", OWN)
def test_which_is_not_what_the_equations_give(name):
    *_, ours = trajectory(OWN[name])
    *_, theirs = trajectory(PROGRAMS[name][1])
    *_, plain = trajectory(lambda base, model: SAM(base, model=model))
    assert length(moved(ours, theirs, -1)) > 1e-5
    assert length(moved(theirs, plain, -1)) > 1e-5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda base: ASAM(base, scope="named"), "scope=named goes by the names of parameters: ASAM needs model="),
        (lambda base: FSAM(base, follow="code"), "follow=code: must be paper or program"),
        (lambda base: ESAM(base, follow="code"), "follow=code: must be paper or program"),
    ],
)
def test_refuses(build, message):
    with pytest.raises(ValueError, match=message):
        build(sgd(network().parameters()))
