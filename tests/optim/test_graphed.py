"""Steps as CUDA graphs compute what eager steps do, to the bit: on a CPU, with `tape` in the place of the graphs."""

import io
import itertools
import warnings
from contextlib import contextmanager

import pytest
import torch
from hydra.utils import instantiate
from optim.tape import TapeRecorder
from optim.test_contract import PAIRS, assert_equal_states, build_rule, composed, make_model
from torch import nn

from lets_runner import (
    ASAM,
    ESAM,
    FSAM,
    GSAM,
    LESAM,
    LETS,
    MSAM,
    RST,
    SAM,
    SAMON,
    CosineRadius,
    FixedRadius,
    GapMatching,
    GraphedStep,
    LookSAM,
    MomentumSAM,
    NonFiniteError,
    NotGraphableError,
    RadiusRule,
    SAMPa,
)
from lets_runner.optim.engine import sensitivity
from lets_runner.optim.engine.finite import DeferredGuard
from lets_runner.optim.graphs.eager import EagerStep

CPU = torch.device("cpu")
LR = 2.0**-5  # as all rates below: a number of float32, in which a graph reads them
EAGER = {"ae_sam", "ae_looksam"}  # they ask for a number in every step

generator = torch.Generator().manual_seed(7)
X = torch.randn(60, 24, 6, generator=generator, dtype=torch.float64)
Y = torch.randint(0, 3, (60, 24), generator=generator)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=LR, momentum=0.9, weight_decay=1e-2, fused=True)


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=LR, fused=True)


def defer(optimizer):
    """Verdicts on what is not finite stay tensors, as on an accelerator."""
    sam = optimizer.sam
    sam._guard = DeferredGuard(CPU, skip=sam.nonfinite == "skip", scale=sam._scale)
    return optimizer


def loss_of(model):
    return lambda batch: nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


class Run:
    """A model, an optimizer and steps of it, eager or recorded."""

    def __init__(self, build, *, graphed, seed=0, recorder=None, **settings):
        self.model = make_model(seed)
        self.optimizer = defer(build(self.model))
        self.recorder = (recorder or TapeRecorder()) if graphed else None
        self.said = []  # of why steps stay eager
        loss = loss_of(self.model)
        kind = GraphedStep if graphed else EagerStep
        more = {"recorder": self.recorder, "warmup": 2} if graphed else {}
        with self.listening():
            self.step = kind(self.optimizer, loss, loss, **more, **settings)
        self.losses, self.lasts = [], []
        self.random = torch.manual_seed(11).get_state()  # of this run, whatever others draw in between

    @contextmanager
    def listening(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        self.said += [str(warning.message) for warning in caught]

    def take(self, numbers, *, size=24, factor=None):
        torch.set_rng_state(self.random)
        for number in numbers:
            for group in self.optimizer.param_groups:
                group["lr"] = LR * (1 - (number % 32) / 64)
            x = X[number, :size] if factor is None else X[number, :size] * factor
            other = 59 - number
            with self.listening():
                self.losses.append(self.step((x, Y[number, :size]), (X[other], Y[other])))
            self.lasts.append(self.optimizer.last)
        self.random = torch.get_rng_state()
        return self

    @property
    def replays(self):
        return [tape.replays for tape in self.recorder.tapes]


def assert_same(eager, graphed):
    assert_equal_states(eager.model, graphed.model)
    assert torch.equal(torch.stack(eager.losses), torch.stack(graphed.losses))
    for name in ("loss", "val_loss", "gap", "hypergradient", "rho", "rho_applied", "gradient_norm"):
        ours, theirs = ([getattr(last, name).double() for last in run.lasts] for run in (eager, graphed))
        torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=0, atol=0, equal_nan=True, msg=name)
    assert flat(eager.optimizer.state_dict()) == flat(graphed.optimizer.state_dict())


def flat(value, path=""):
    """A state dict as paths and plain numbers, so that two can be compared."""
    if isinstance(value, dict):
        return {key: item for name, part in value.items() for key, item in flat(part, f"{path}/{name}").items()}
    if isinstance(value, list | tuple):
        return flat(dict(enumerate(value)), path)
    if isinstance(value, torch.Tensor):
        value = value.double().tolist() if value.ndim else float(value)
    return {path: repr(value)}


def both(build, numbers=range(24), **settings):
    eager = Run(build, graphed=False, **settings).take(numbers)
    graphed = Run(build, graphed=True, **settings).take(numbers)
    return eager, graphed


def variant(name, base, model, **settings):
    return instantiate(composed("sam", name), _partial_=True, _convert_="all")(base, model=model, **settings)


@pytest.mark.parametrize(("sam", "rule"), PAIRS)
def test_every_variant_and_rule_is_the_same_as_a_graph(sam, rule):
    eager, graphed = both(lambda model: build_rule(rule, variant(sam, sgd(model.parameters()), model)))
    assert_same(eager, graphed)
    if sam in EAGER:
        assert graphed.step.reason in {f"{name} does not say `graphable = True`" for name in ("AESAM", "AELookSAM")}
        assert graphed.said == [f"steps stay eager, no CUDA graphs: {graphed.step.reason}"]
    else:
        assert graphed.step.reason is None
        assert graphed.said == []
        assert sum(graphed.replays) >= 8


CASES = {
    "asam_all": lambda base, model: ASAM(base, model=model, scope="all"),
    "asam_named": lambda base, model: ASAM(base, model=model, scope="named"),
    "esam_paper": lambda base, model: LETS(ESAM(base, model=model, follow="paper")),
    "f_sam_program": lambda base, model: LETS(FSAM(base, model=model, follow="program")),
    "momentum_sam_planned": lambda base, model: CosineRadius(MomentumSAM(base, model=model), total_steps=30, end=0.1),
    "sampa_planned": lambda base, model: CosineRadius(SAMPa(base, model=model), total_steps=30, end=0.01),
    "sampa_clipped": lambda base, model: SAMPa(base, model=model, max_grad_norm=0.1),
    "sam_on_adaptive": lambda base, model: LETS(SAMON(base, model=model, adaptive=True, xi=0.01)),
    "gsam_tied": lambda base, model: GSAM(base, 0.1, rho_min=0.01, model=model),
    "le_sam_annealed": lambda base, model: LESAM(base, anneal=0.7, total_steps=24, model=model),
    "rst_trigonometric": lambda base, model: RST(base, p=0.2, schedule="trigonometric", total_steps=24, model=model),
    "lets_every_3": lambda base, model: LETS(SAM(base, model=model), every=3),
    "lets_every_2_over_looksam": lambda base, model: LETS(LookSAM(base, k=3, model=model), every=2),
    "lets_exact": lambda base, model: LETS(SAM(base, model=model), curvature="exact"),
    "lets_val_sgd": lambda base, model: LETS(SAM(base, model=model), objective="val", rho_optimizer="sgd"),
    "lets_normalised": lambda base, model: LETS(SAM(base, model=model), rho_optimizer="normalised"),
    "gap_matching_every_2": lambda base, model: GapMatching(ASAM(base, 0.5, model=model), every=2),
    "clipped": lambda base, model: LETS(SAM(base, model=model, max_grad_norm=0.1)),
    "scaled": lambda base, model: LETS(SAM(base, model=model, loss_scale=2.0**10)),
    "zero": lambda base, model: SAM(base, 0.0, model=model),
    "no_rule": lambda base, model: ESAM(base, model=model),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("base", [sgd, adamw])
def test_so_are_settings_that_change_what_a_step_does(monkeypatch, base, name):
    # Where the host has the numbers of Adam's steps it reads them; on an accelerator it has not.
    monkeypatch.setattr(sensitivity, "_each", lambda values: list(values.unbind()))
    eager, graphed = both(lambda model: CASES[name](base(model.parameters()), model), range(30))
    assert_same(eager, graphed)
    assert graphed.step.reason is None
    assert sum(graphed.replays) >= 10


@pytest.mark.parametrize("sam", [SAM, MSAM, ESAM])
def test_microbatches_and_shards(sam):
    eager, graphed = both(lambda model: LETS(sam(sgd(model.parameters()), model=model)), parts=2, val_parts=3)
    assert_same(eager, graphed)
    assert sum(graphed.replays) >= 15


def lets(model):
    return LETS(SAM(sgd(model.parameters()), model=model))


def lets_over_looksam(model):
    return LETS(LookSAM(sgd(model.parameters()), k=3, model=model), every=2)


def test_what_a_step_leaves_is_not_written_over():
    """`both` has kept every loss and every `last` until the end; two that are one would show here."""
    _, graphed = both(lets)
    for kept in ([last.loss for last in graphed.lasts], graphed.losses):
        assert len({tensor.data_ptr() for tensor in kept}) == len(kept)


def test_a_validation_batch_is_made_only_where_it_is_used():
    asked = []
    run = Run(lambda model: LETS(SAM(sgd(model.parameters()), model=model), every=4), graphed=True)
    for number in range(40):
        run.step((X[number], Y[number]), lambda number=number: asked.append(number) or (X[number], Y[number]))
    assert asked == list(range(0, 40, 4))
    assert sum(run.replays) >= 20


def test_the_radius_may_be_set_and_switched_off_between_steps():
    runs = [Run(lets, graphed=graphed) for graphed in (False, True)]
    for run in runs:
        run.take(range(8))
        run.optimizer.rho = 0.3
        run.take(range(8, 16))
    assert_same(*runs)
    runs = [Run(lambda model: SAM(sgd(model.parameters()), model=model), graphed=graphed) for graphed in (False, True)]
    for run in runs:
        for start, rho in ((0, 0.1), (8, 0.0), (16, 0.2)):
            run.optimizer.rho = rho
            run.take(range(start, start + 8))
    assert_same(*runs)
    assert len(runs[1].recorder.tapes) == 2


@pytest.mark.parametrize("into", [False, True], ids=["eager", "graphed"])
@pytest.mark.parametrize("out_of", [False, True], ids=["eager", "graphed"])
@pytest.mark.parametrize("build", [lets, lets_over_looksam])
def test_a_run_goes_on_from_a_state(build, out_of, into):
    first = Run(build, graphed=out_of).take(range(13))
    file = io.BytesIO()
    torch.save([first.model.state_dict(), first.optimizer.state_dict(), first.random], file)
    first.take(range(13, 26))

    second = Run(build, graphed=into, seed=3).take(range(30, 45))  # in the middle of something else
    file.seek(0)
    weights, state, second.random = torch.load(file, weights_only=True)
    second.model.load_state_dict(weights)
    second.optimizer.load_state_dict(state)
    second.losses, second.lasts = first.losses[:13], first.lasts[:13]
    second.take(range(13, 26))
    assert_same(first, second)


def test_another_momentum_is_another_graph_and_the_rate_stays_a_number():
    runs = [Run(lets, graphed=graphed) for graphed in (False, True)]
    for run in runs:
        run.take(range(8))
        run.optimizer.param_groups[0]["momentum"] = 0.5
        run.take(range(8, 16))
        assert isinstance(run.optimizer.param_groups[0]["lr"], float)
    assert_same(*runs)
    assert len(runs[1].recorder.tapes) == 2


def test_settings_that_change_in_every_step_end_it():
    run = Run(lets, graphed=True)
    for number in range(70):
        run.optimizer.param_groups[0]["momentum"] = 0.9 - number / 1000
        run.take([number % 60])
    assert "no two steps are of one kind" in run.step.reason
    assert run.recorder.tapes == []


def test_batches_of_another_size_may_come_between():
    eager, graphed = (Run(lets, graphed=graphed) for graphed in (False, True))
    for run in (eager, graphed):
        for start in range(0, 24, 8):
            run.take(range(start, start + 7)).take([start + 7], size=10)
    assert_same(eager, graphed)
    assert sum(graphed.replays) >= 10


def test_weights_that_move_are_found_again():
    runs = [Run(lets, graphed=graphed) for graphed in (False, True)]
    for run in runs:
        run.take(range(8))
        for parameter in run.model.parameters():
            parameter.data = parameter.data.clone()
        run.take(range(8, 16))
    assert_same(*runs)
    assert len(runs[1].recorder.tapes) == 2


def test_schedulers_find_what_they_are_used_to(recwarn):
    run = Run(lets, graphed=True)
    scheduler = torch.optim.lr_scheduler.StepLR(run.optimizer, 2)
    for number in range(8):
        run.step((X[number], Y[number]), (X[59 - number], Y[59 - number]))
        scheduler.step()
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(LR * 1e-4)
    assert len(recwarn) == 0


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
def test_a_bad_step_is_named_or_skipped_in_a_replay_too(nonfinite):
    def build(model):
        return LETS(SAM(sgd(model.parameters()), model=model, nonfinite=nonfinite))

    runs = [Run(build, graphed=graphed) for graphed in (False, True)]
    for run in runs:
        run.take(range(9))
        before = [parameter.detach().clone() for parameter in run.model.parameters()]
        if nonfinite == "raise":
            with pytest.raises(NonFiniteError, match="step 10: the first pass"):
                run.take([9], factor=float("inf")).take(range(10, 14))
            same = zip(run.model.parameters(), before, strict=True)
            assert all(torch.equal(parameter, old) for parameter, old in same)
        else:
            run.take([9], factor=float("inf"))
            assert run.optimizer.sam.skipped == 1
    assert sum(runs[1].replays) >= 5


def test_first_steps_that_are_bad_are_not_captured():
    """As with float16, whose loss scale starts too high: until an update has been made, every step waits for it."""
    runs = [
        Run(lambda model: LETS(SAM(sgd(model.parameters()), model=model, nonfinite="skip")), graphed=graphed)
        for graphed in (False, True)
    ]
    for run in runs:
        run.take(range(5), factor=float("inf")).take(range(5, 20))
        assert run.optimizer.sam.skipped == 5
    for ours, theirs in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
        assert torch.isfinite(ours).all()
        assert torch.equal(ours, theirs)
    assert runs[1].step.reason is None
    assert sum(runs[1].replays) >= 5


class Watching(TapeRecorder):
    """A recorder that notes what is done while a step is rehearsed."""

    rehearsing = False

    @contextmanager
    def watch(self):
        self.rehearsing = True
        yield []
        self.rehearsing = False


def test_batches_are_not_made_in_a_rehearsal():
    """A loader may wait for the device where a step must not."""
    recorder = Watching()
    run = Run(lets, graphed=True, recorder=recorder)
    made = []

    def batch(number):
        made.append(recorder.rehearsing)
        return X[number], Y[number]

    for number in range(12):
        run.step(batch(number), lambda number=number: batch(59 - number))
    assert len(made) == 24
    assert not any(made)
    assert sum(run.replays) >= 5


class Counting(RadiusRule):
    """ρ from the step's number, read where a graph would build it in."""

    def before_perturbation(self, step, val):
        self.sam.move_radius(0.01 * step.number)


class Promising(Counting):
    graphable = True


class Planning(RadiusRule):
    graphable = True

    def before_perturbation(self, step, val):
        self.sam.move_radius(step.planned(lambda number: 0.01 * number))


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (Counting, "Counting does not say `graphable = True`"),
        (Promising, "a step reads its number: what follows from it must come from step.planned"),
        (Planning, None),
    ],
)
def test_a_number_of_the_host_is_never_built_in(rule, reason):
    eager, graphed = both(lambda model: rule(SAM(sgd(model.parameters()), model=model)))
    assert graphed.step.reason == reason
    assert len(graphed.said) == (reason is not None)
    assert_same(eager, graphed)
    assert float(graphed.lasts[-1].rho_applied) == 0.24
    assert (sum(graphed.replays) > 0) == (reason is None)


def test_a_strict_step_raises_what_it_finds_and_has_been_taken():
    run = Run(lambda model: Promising(SAM(sgd(model.parameters()), model=model)), graphed=True, strict=True)
    run.take(range(2))
    with pytest.raises(NotGraphableError, match="a step reads its number"):
        run.take(range(2, 4))
    assert run.optimizer.sam.steps == 3


def test_a_subclass_does_not_inherit_the_promise():
    class Mine(SAM):
        def perturbs(self, step):
            return step.number % 2 == 0

    eager, graphed = both(lambda model: FixedRadius(Mine(sgd(model.parameters()), model=model)))
    assert "Mine does not say" in graphed.step.reason
    assert_same(eager, graphed)


def test_what_is_not_fused_or_on_no_gpu_is_eager():
    model = make_model()
    loss = loss_of(model)
    unfused = SAM(torch.optim.SGD(model.parameters(), lr=LR, fused=False), model=model)
    with pytest.warns(UserWarning, match="fused=True"):
        GraphedStep(unfused, loss, recorder=TapeRecorder())
    why = "CUDA graphs need a CUDA device, and the weights are on cpu"
    with pytest.warns(UserWarning, match=why):
        step = GraphedStep(SAM(sgd(model.parameters()), model=model), loss)
    assert step.reason == why
    assert torch.isfinite(step((X[0], Y[0]))).all()
    with pytest.raises(NotGraphableError, match=why):
        GraphedStep(SAM(sgd(model.parameters()), model=model), loss, strict=True)
    with pytest.raises(ValueError, match="warmup=1"):
        GraphedStep(unfused, loss, warmup=1)


class Failing(TapeRecorder):
    """A recorder whose captures fail before they have done anything, as CUDA's do."""

    def graph(self, rewinds):
        tape = super().graph(rewinds)

        def record(body):
            raise RuntimeError("operation not permitted\nwhen stream is capturing")

        tape.record = record
        return tape


def test_a_capture_that_fails_leaves_eager_steps():
    eager = Run(lets, graphed=False).take(range(12))
    graphed = Run(lets, graphed=True, recorder=Failing()).take(range(12))
    assert graphed.step.reason == "RuntimeError: operation not permitted when stream is capturing"
    assert_same(eager, graphed)


def test_an_observer_is_a_part_of_the_graph():
    total = torch.zeros((), dtype=torch.float64)
    runs = []
    for graphed in (False, True):
        total = torch.zeros((), dtype=torch.float64)
        run = Run(lets, graphed=graphed)

        def observe(run=run, total=total):
            total.add_(run.optimizer.last.loss)
            return torch.stack([run.optimizer.last.loss.double(), total])

        run.step.observe = observe
        runs.append((run.take(range(16)), total))
    (eager, first), (graphed, second) = runs
    assert_same(eager, graphed)
    assert first == second
    assert float(first) == pytest.approx(float(torch.stack(eager.losses)[:, 0].sum()), rel=1e-12)
    assert sum(graphed.replays) >= 10


def test_ways_to_nest_a_batch():
    model = nn.Linear(6, 3).double()
    optimizer = defer(SAM(sgd(model.parameters()), model=model))
    step = GraphedStep(
        optimizer,
        lambda batch: nn.functional.cross_entropy(model(batch["inputs"][0]) * batch["scale"], batch["labels"]),
        recorder=TapeRecorder(),
        warmup=2,
    )
    plain = nn.Linear(6, 3).double()
    plain.load_state_dict(model.state_dict())
    other = SAM(sgd(plain.parameters()), model=plain)
    for number, scale in itertools.product(range(6), (1.0, 2.0)):
        step({"inputs": [X[number]], "labels": Y[number], "scale": scale})
        other.step(lambda n=number, s=scale: nn.functional.cross_entropy(plain(X[n]) * s, Y[n]))
    assert_equal_states(model, plain)
    assert step.graphs == 2
