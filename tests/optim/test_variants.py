"""Every variant against its equations in NumPy, the identities between them, and LETS through each of them."""

import copy
import math
import random
from functools import partial

import numpy as np
import pytest
import reference
import torch
from conftest import Problem
from reference import dot, norm

from lets_runner import (
    AESAM,
    ASAM,
    ESAM,
    FSAM,
    GSAM,
    LESAM,
    LETS,
    MSAM,
    RST,
    SAM,
    WSAM,
    AELookSAM,
    FisherSAM,
    GapMatching,
    LookSAM,
    VaSSO,
)

T = 16  # steps of a training
BASES = {
    "momentum": (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
        lambda: reference.SGD(0.1, 0.9, weight_decay=1e-2),
    ),
    "adamw": (
        lambda p: torch.optim.AdamW(p, lr=0.01, eps=1e-2, weight_decay=0.1),
        lambda: reference.Adam(0.01, eps=1e-2, weight_decay=0.1, decoupled=True),
    ),
}


def combination(*terms):
    """Σ factor · vector."""
    return [sum(factor * x[i] for factor, x in terms) for i in range(len(terms[0][1]))]


class Oracle:
    """One variant in NumPy: `step` takes the parameters through one of its steps."""

    rho = 0.1

    def __init__(self, **settings):
        self.__dict__.update(settings)
        self.t = 0
        self.passes = 0

    def gradient(self, params, batch):
        self.passes += 1
        return reference.loss_and_gradient(params, batch)[1]

    def step(self, base, params, batch):
        g = self.gradient(params, batch)
        g_s = None
        if self.perturbs(g):
            unit = self.direction(params, g)
            g_s = self.gradient(combination((1, params), (self.rho, unit)), batch)
        self.t += 1
        return self.update(base, params, g, g_s)

    def perturbs(self, g):
        return True

    def direction(self, params, g):
        return reference.sam_direction(params, g)

    def update(self, base, params, g, g_s):
        return base.step(params, g if g_s is None else g_s)


class ASAMOracle(Oracle):
    def direction(self, params, g):
        return reference.asam_direction(params, g)


class ASAMAllOracle(Oracle):
    scope = "all"

    def direction(self, params, g):
        length = norm([np.abs(p) * x for p, x in zip(params, g, strict=True)])
        return [p**2 * x / length for p, x in zip(params, g, strict=True)]


class RSTOracle(Oracle):
    schedule, p, p_end = "constant", 0.5, 1.0

    def perturbs(self, g):
        s = self.t / T
        p = {
            "constant": self.p,
            "linear": self.p * (1 - s) + self.p_end * s,
            "trigonometric": self.p_end + (self.p - self.p_end) * math.cos(math.pi * s / 2) ** 2,
        }[self.schedule]
        return random.Random(f"0 {self.t + 1}").random() < p


class LookSAMOracle(Oracle):
    k, alpha, g_v = 4, 0.7, None

    def perturbs(self, g):
        return self.t % self.k == 0

    def update(self, base, params, g, g_s):
        if g_s is not None:
            unit = reference.sam_direction(params, g)
            self.g_v = combination((1, g_s), (-dot(g_s, unit), unit))
            return base.step(params, g_s)
        if self.g_v is None:
            return base.step(params, g)
        return base.step(params, combination((1, g), (self.alpha * norm(g) / norm(self.g_v), self.g_v)))


class TriggerMixin:
    lambda1, lambda2, delta, corrected, mu, var = -1.0, 1.0, 0.9, False, 0.0, 0.0

    def perturbs(self, g):
        x = norm(g) ** 2
        if self.corrected:
            return self.perturbs_corrected(x)
        self.mu = self.delta * self.mu + (1 - self.delta) * x
        self.var = self.delta * self.var + (1 - self.delta) * (x - self.mu) ** 2
        c = self.t / T * self.lambda1 + (1 - self.t / T) * self.lambda2
        return x >= self.mu + c * math.sqrt(self.var)

    def perturbs_corrected(self, x):
        """Averages whose weights, powers of δ, sum up to 1."""
        self.seen = [*getattr(self, "seen", []), x]
        powers = self.delta ** np.arange(len(self.seen))[::-1]
        mu = np.average(self.seen, weights=powers)
        self.squares = [*getattr(self, "squares", []), (x - mu) ** 2]
        c = self.lambda2 + self.t / T * (self.lambda1 - self.lambda2)
        return x >= mu + c * math.sqrt(np.average(self.squares, weights=powers))


class AESAMOracle(TriggerMixin, Oracle):
    pass


class AELookSAMOracle(TriggerMixin, LookSAMOracle):
    pass


class GSAMOracle(Oracle):
    alpha = 0.4

    def update(self, base, params, g, g_s):
        unit = combination((1 / norm(g_s), g_s))
        return base.step(params, combination((1, g_s), (-self.alpha, combination((1, g), (-dot(g, unit), unit)))))


class FisherSAMOracle(Oracle):
    eta = 3.0

    def direction(self, params, g):
        metric = [1 / (1 + self.eta * x**2) for x in g]
        length = math.sqrt(sum((x * m * x).sum() for x, m in zip(g, metric, strict=True)))
        return [m * x / length for x, m in zip(g, metric, strict=True)]


class FSAMOracle(Oracle):
    sigma, lambda_, m = 1.0, 0.9, None

    def direction(self, params, g):
        self.m = combination((1 - self.lambda_, g), (self.lambda_, self.m or [0 * x for x in g]))
        d = combination((1, g), (-self.sigma, self.m))
        return combination((1 / norm(d), d))


class FSAMProgramOracle(FSAMOracle):
    follow = "program"

    def direction(self, params, g):
        d = g if self.m is None else combination((1, g), (-self.sigma, self.m))
        self.m = g if self.m is None else combination((1 - self.lambda_, g), (self.lambda_, self.m))
        return combination((1 / norm(d), d))


class VaSSOOracle(Oracle):
    theta, d = 0.4, None

    def direction(self, params, g):
        self.d = g if self.d is None else combination((1 - self.theta, self.d), (self.theta, g))
        return combination((1 / norm(self.d), self.d))


class ESAMOracle(Oracle):
    beta, gamma = 0.6, 0.5

    def step(self, base, params, batch):
        g = self.gradient(params, batch)
        draw = random.Random(f"0 {self.t + 1}")
        kept = [draw.random() < self.beta for _ in g]
        epsilon = [self.rho / self.beta * x / norm(g) if keep else 0 * x for x, keep in zip(g, kept, strict=True)]
        there = combination((1, params), (1, epsilon))
        rises = np.array([each(there, batch, i) - each(params, batch, i) for i in range(len(batch[1]))])
        worst = np.argsort(-rises)[: round(self.gamma * len(rises))]
        self.t += 1
        return base.step(params, self.gradient(there, (batch[0][worst], batch[1][worst])))


class ESAMProgramOracle(ESAMOracle):
    follow = "program"

    def step(self, base, params, batch):
        draw = random.Random(f"0 {self.t + 1}")
        kept = [draw.random() < self.beta or self.t == 0 for _ in params]
        g = [x if keep else 0 * x for x, keep in zip(self.gradient(params, batch), kept, strict=True)]
        there = combination((1, params), (self.rho / self.beta / norm(g), g))
        rises = [each(there, batch, i) - each(params, batch, i) for i in range(len(batch[1]))]
        worst = np.array(rises) > sorted(rises)[-int(self.gamma * len(rises))]
        self.t += 1
        return base.step(params, self.gradient(there, (batch[0][worst], batch[1][worst])))


def each(params, batch, i):
    return reference.loss_and_gradient(params, (batch[0][i : i + 1], batch[1][i : i + 1]))[0]


class MSAMOracle(Oracle):
    m = 4

    def step(self, base, params, batch):
        gradients = []
        for start in range(0, len(batch[1]), self.m):
            shard = tuple(part[start : start + self.m] for part in batch)
            unit = reference.sam_direction(params, self.gradient(params, shard))
            gradients.append(self.gradient(combination((1, params), (self.rho, unit)), shard))
        return base.step(params, combination(*[(1 / len(gradients), g) for g in gradients]))


class LESAMOracle(Oracle):
    sigma, stability, anneal, rho_max = 0.05, 0.01, 0.5, 0.1

    def step(self, base, params, batch):
        g = self.gradient(params, batch)
        late = max(0.0, self.t - T * (1 - self.anneal)) / (T * self.anneal)
        sigma = self.sigma * math.cos(math.pi * late / 2) ** 2
        rho = min(sigma / (norm(g) + self.stability), self.rho_max)
        self.t += 1
        unit = reference.sam_direction(params, g)
        return base.step(params, self.gradient(combination((1, params), (rho, unit)), batch))


class WSAMOracle(Oracle):
    gamma, decoupled = 0.8, True

    def update(self, base, params, g, g_s):
        alpha = self.gamma / (1 - self.gamma)
        if not self.decoupled:
            return base.step(params, combination((alpha, g_s), (1 - alpha, g)))
        after = base.step(params, g)
        return combination((1, after), (-base.lr * alpha, g_s), (base.lr * alpha, g))


CASES = {
    "sam": (SAM, {}, Oracle),
    "asam": (ASAM, {}, ASAMOracle),
    "asam_all": (ASAM, {"scope": "all"}, ASAMAllOracle),
    "rst": (RST, {}, RSTOracle),
    "rst_linear": (RST, {"schedule": "linear", "p": 0.2, "p_end": 0.9, "total_steps": T}, RSTOracle),
    "rst_trigonometric": (RST, {"schedule": "trigonometric", "p": 0.9, "p_end": 0.1, "total_steps": T}, RSTOracle),
    "looksam": (LookSAM, {"k": 4}, LookSAMOracle),
    "ae_sam": (AESAM, {"total_steps": T}, AESAMOracle),
    "ae_sam_corrected": (AESAM, {"total_steps": T, "corrected": True}, AESAMOracle),
    "ae_looksam": (AELookSAM, {"total_steps": T}, AELookSAMOracle),
    "ae_looksam_corrected": (AELookSAM, {"total_steps": T, "corrected": True}, AELookSAMOracle),
    "gsam": (GSAM, {"alpha": 0.4}, GSAMOracle),
    "fisher_sam": (FisherSAM, {"eta": 3.0}, FisherSAMOracle),
    "f_sam": (FSAM, {"lambda_": 0.9}, FSAMOracle),
    "f_sam_program": (FSAM, {"lambda_": 0.9, "follow": "program"}, FSAMProgramOracle),
    "vasso": (VaSSO, {"theta": 0.4}, VaSSOOracle),
    "esam": (ESAM, {"follow": "paper"}, ESAMOracle),
    "esam_program": (ESAM, {}, ESAMProgramOracle),
    "m_sam": (MSAM, {"m": 4}, MSAMOracle),
    "le_sam": (LESAM, {"sigma": 0.05, "stability": 0.01, "anneal": 0.5, "total_steps": T}, LESAMOracle),
    "wsam": (WSAM, {"gamma": 0.8}, WSAMOracle),
    "wsam_coupled": (WSAM, {"gamma": 0.8, "decoupled": False}, WSAMOracle),
}


def closures(problem, number, size=None):
    """The losses of every example of a batch, in one closure or in shards of `size`."""
    x, y = problem.x[number], problem.y[number]

    def losses(part):
        return torch.nn.functional.cross_entropy(problem.model(x[part]), y[part], reduction="none")

    step = size or len(y)
    return [partial(losses, slice(start, start + step)) for start in range(0, len(y), step)]


def make_oracle(cls, settings):
    return cls(**{key: value for key, value in settings.items() if key != "total_steps"})


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("case", CASES)
def test_equals_its_equations(problem, case, base):
    cls, settings, oracle_class = CASES[case]
    build, reference_base = BASES[base]
    optimizer = cls(build(problem.params), 0.1, **settings)
    oracle, oracle_base, params = make_oracle(oracle_class, settings), reference_base(), problem.numpy_params()
    for number in range(T):
        optimizer.step(closures(problem, number, settings.get("m")))
        params = oracle.step(oracle_base, params, problem.numpy_batch(number))
        for ours, theirs in zip(problem.params, params, strict=True):
            np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-10, atol=1e-12)
    assert optimizer.gradient_evaluations == oracle.passes
    if case not in ("sam", "asam"):
        plain = Problem()
        twin = SAM(build(plain.params), 0.1)
        for number in range(T):
            twin.step(plain.closure(number))
        assert any(not torch.equal(a, b) for a, b in zip(problem.params, plain.params, strict=True))


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("case", [c for c in CASES if c not in ("sam", "asam", "le_sam")])
def test_lets_goes_through_it_exactly(problem, case, base):
    """The exact hypergradient of a step that perturbs equals central differences through the variant's whole step."""
    cls, settings, oracle_class = CASES[case]
    build, reference_base = BASES[base]
    sam = cls(build(problem.params), 0.1, **settings)
    oracle, oracle_base, params = make_oracle(oracle_class, settings), reference_base(), problem.numpy_params()
    for number in range(T):
        if number >= 4 and copy.deepcopy(oracle).perturbs(
            reference.loss_and_gradient(params, problem.numpy_batch(number))[1]
        ):
            break
        sam.step(closures(problem, number, settings.get("m")))
        params = oracle.step(oracle_base, params, problem.numpy_batch(number))
    optimizer = LETS(
        sam, curvature="exact", upper_batch="same", gap_ema=0.0, lr_invariant=False, rho_lr=0.0, bounds=(0.0, math.inf)
    )
    optimizer.step(closures(problem, number, settings.get("m")), problem.closure(19))

    def objective(rho):
        twin, twin_base = copy.deepcopy((oracle, oracle_base))
        twin.rho = rho
        after = twin.step(twin_base, params, problem.numpy_batch(number))
        losses = [reference.loss_and_gradient(after, problem.numpy_batch(n))[0] for n in (19, number)]
        return 0.5 * (losses[0] - losses[1]) ** 2

    def central(h):
        return (objective(0.1 + h) - objective(0.1 - h)) / (2 * h)

    expected = (4 * central(5e-4) - central(1e-3)) / 3
    assert optimizer.last.hypergradient.item() == pytest.approx(expected, rel=1e-6)
    assert abs(expected) > 1e-9


def weights_after(cls, base, rho=0.1, **settings):
    problem = Problem()
    optimizer = cls(base(problem.params), rho, **settings)
    for number in range(8):
        optimizer.step(closures(problem, number))
    return problem.params


def unperturbed(base):
    problem = Problem()
    optimizer = base(problem.params)
    for number in range(8):
        optimizer.zero_grad()
        closures(problem, number)[0]().mean().backward()
        optimizer.step()
    return problem.params


INF = math.inf
IDENTITIES = {
    "RST p=1 is SAM": (RST, {"p": 1.0}, SAM),
    "RST p=0 is the base": (RST, {"p": 0.0}, None),
    "LookSAM k=1 is SAM": (LookSAM, {"k": 1}, SAM),
    "AE-SAM λ=−∞ is SAM": (AESAM, {"lambda1": -INF, "lambda2": -INF, "total_steps": 8}, SAM),
    "AE-SAM λ=+∞ is the base": (AESAM, {"lambda1": INF, "lambda2": INF, "total_steps": 8}, None),
    "AE-LookSAM λ=−∞ is SAM": (AELookSAM, {"lambda1": -INF, "lambda2": -INF, "total_steps": 8}, SAM),
    "GSAM α=0, ρ_min=ρ_max is SAM": (GSAM, {"alpha": 0.0, "rho_min": 0.1}, SAM),
    "ESAM β=γ=1 is SAM": (ESAM, {"beta": 1.0, "gamma": 1.0}, SAM),
    "m-SAM m=|B| is SAM": (MSAM, {"m": 16}, SAM),
    "F-SAM σ=0 is SAM": (FSAM, {"sigma": 0.0}, SAM),
    "VaSSO θ=1 is SAM": (VaSSO, {"theta": 1.0}, SAM),
    "WSAM γ=0 is the base": (WSAM, {"gamma": 0.0}, None),
    "FisherSAM η=0 is SAM": (FisherSAM, {"eta": 0.0}, SAM),
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("identity", IDENTITIES)
def test_identities_to_the_bit(identity, base):
    cls, settings, other = IDENTITIES[identity]
    build, _ = BASES[base]
    expected = unperturbed(build) if other is None else weights_after(other, build)
    # FisherSAM's norm is a square root of a dot product, whose last bit may differ
    tolerance = 1e-13 if cls is FisherSAM else 0.0
    for ours, theirs in zip(weights_after(cls, build, **settings), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_wsam_decoupled_with_half_is_sam_for_plain_sgd():
    """θ − ηg − η(g_s − g) is θ − ηg_s to rounding; not to the bit, since it is another order of additions."""

    def base(params):
        return torch.optim.SGD(params, lr=0.1)

    for ours, theirs in zip(weights_after(WSAM, base, gamma=0.5), weights_after(SAM, base), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-14)


def test_early_steps_of_ae_sam_are_all_perturbed_but_for_a_correction(problem):
    """Of gradients that get smaller, if hardly, only the first is as large as any so far."""
    perturbed = {}
    for corrected in (False, True):
        base = torch.optim.SGD(problem.params, lr=0.0)
        optimizer = AESAM(base, total_steps=10**6, corrected=corrected)
        for number in range(30):
            optimizer.step(lambda number=number: problem.closure(0)() * 0.99999**number)
        perturbed[corrected] = optimizer.perturbed_steps
    assert perturbed == {False: 7, True: 1}


def test_ae_sam_loads_states_from_before_there_was_a_correction(problem):
    optimizer = AESAM(torch.optim.SGD(problem.params, lr=0.1), total_steps=10)
    optimizer.step(problem.closure(0))
    state = optimizer.state_dict()
    old = {name: value for name, value in state["_trigger"].items() if name != "weight"}
    assert len(old) == 2
    optimizer.load_state_dict({**state, "_trigger": old})
    optimizer.step(problem.closure(1))
    assert optimizer.perturbed_steps == 2


def test_gsam_ties_its_radius_to_the_learning_rate(problem):
    base = torch.optim.SGD(problem.params, lr=0.4)
    optimizer = GSAM(base, 0.2, rho_min=0.1, lr_min=0.1)
    for lr, expected in ((0.4, 0.2), (0.25, 0.15), (0.1, 0.1)):
        base.param_groups[0]["lr"] = lr
        optimizer.step(problem.closure(0))
        assert optimizer.last.rho_applied.item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="LETS cannot choose the radius of GSAM: its own schedule"):
        LETS(optimizer)


def test_a_radius_that_was_0_for_a_moment_comes_back_after_a_resumption():
    def build():
        problem = Problem()
        return problem, GSAM(torch.optim.SGD(problem.params, lr=0.0), 0.2, rho_min=0.0, lr_max=0.4)

    problem, optimizer = build()
    optimizer.step(problem.closure(0))
    assert optimizer.rho == 0
    resumed_problem, resumed = build()
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, its_problem in ((optimizer, problem), (resumed, resumed_problem)):
        one.param_groups[0]["lr"] = 0.2
        one.step(its_problem.closure(1))
        assert one.last.rho_applied.item() == pytest.approx(0.1)
    assert resumed.perturbed_steps == optimizer.perturbed_steps == 2


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (RST, {"p": 1.5}, "p=1.5"),
        (RST, {"schedule": "cosine"}, "schedule=cosine"),
        (RST, {"schedule": "linear"}, "needs total_steps"),
        (LookSAM, {"k": 0}, "k=0"),
        (LookSAM, {"alpha": -1}, "alpha=-1"),
        (AESAM, {"total_steps": 0}, "total_steps=0"),
        (AESAM, {"total_steps": 5, "delta": 1.0}, "delta=1.0"),
        (AELookSAM, {"total_steps": 5, "lambda1": math.nan}, "lambda1=nan"),
        (GSAM, {"rho_min": 0.5}, "rho_min=0.5"),
        (GSAM, {"rho_min": 0.01, "lr_min": 1.0}, "lr_min=1.0"),
        (FisherSAM, {"eta": -1}, "eta=-1"),
        (ESAM, {"beta": 0.0}, "beta=0"),
        (ESAM, {"gamma": 1.1}, "gamma=1.1"),
        (MSAM, {"m": 0}, "m=0"),
        (LESAM, {"sigma": 0.0}, "sigma=0"),
        (LESAM, {"anneal": 2.0}, "anneal=2"),
        (LESAM, {"anneal": 0.5}, "needs total_steps"),
        (LESAM, {"stability": -1.0}, "stability=-1"),
        (FSAM, {"lambda_": 1.0}, "lambda_=1.0"),
        (VaSSO, {"theta": 0}, "theta=0"),
        (WSAM, {"gamma": 1.0}, "gamma=1.0"),
        (ASAM, {"xi": -1}, "xi=-1"),
        (ASAM, {"scope": "biases"}, "scope=biases"),
    ],
    ids=str,
)
def test_refuses(problem, cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(torch.optim.SGD(problem.params, lr=0.1), **settings)


def test_le_sam_lets_no_rule_choose_its_radius(problem):
    with pytest.raises(
        ValueError, match="GapMatching cannot choose the radius of LESAM: it follows from the loss budget"
    ):
        GapMatching(LESAM(torch.optim.SGD(problem.params, lr=0.1)))


def test_esam_needs_the_vector_and_all_need_a_closure(problem):
    with pytest.raises(ValueError, match="let the closure return the vector"):
        ESAM(torch.optim.SGD(problem.params, lr=0.1)).step(problem.closure(0))
    with pytest.raises(ValueError, match="at least one closure"):
        MSAM(torch.optim.SGD(problem.params, lr=0.1)).step([])
