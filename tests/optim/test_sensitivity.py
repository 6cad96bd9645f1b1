"""J of base optimizers where the hypergradient tests do not reach."""

import pytest
import torch

from lets_runner.optim.engine import sensitivity

ADAMS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adam_l2": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
}


def numerical_response(base, params, gradient, tangent, h=1e-6):
    """How far the weights end up from where they were, per change of the gradient, by stepping twice."""
    import copy

    ends = []
    for sign in (1, -1):
        twin, twins = copy.deepcopy((base, params))
        for p, g, t in zip(twins, gradient, tangent, strict=True):
            p.grad = g + sign * h * t
        twin.step()
        ends.append([p.detach() for p in twins])
    return [(a - b) / (2 * h) for a, b in zip(*ends, strict=True)]


def setting(build):
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(4, 3, dtype=torch.float64)), torch.nn.Parameter(torch.randn(3).double())]
    base = build(params)
    for _ in range(3):
        for p in params:
            p.grad = torch.randn_like(p)
        base.step()
    return base, params, [torch.randn_like(p) for p in params], [torch.randn_like(p) for p in params]


@pytest.mark.parametrize("scalars", ["host", "device"])
@pytest.mark.parametrize("build", ADAMS.values(), ids=ADAMS)
def test_adam_with_bias_corrections_on_the_host_and_on_the_device(monkeypatch, build, scalars):
    if scalars == "device":  # what happens where the step count lives on an accelerator
        monkeypatch.setattr(sensitivity, "_each", lambda values: list(values.unbind()))
    base, params, gradient, tangent = setting(build)
    expected = numerical_response(base, params, gradient, tangent)
    for ours, theirs in zip(sensitivity.response(base, params, gradient, tangent), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_groups_answer_with_their_own_settings():
    def build(params):
        first = {"params": params[:1], "lr": 0.1, "momentum": 0.9}
        return torch.optim.SGD([first, {"params": params[1:], "lr": 0.5, "maximize": True}])

    base, params, gradient, tangent = setting(build)
    expected = numerical_response(base, params, gradient, tangent)
    for ours, theirs in zip(sensitivity.response(base, params, gradient, tangent), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(expected[0], -0.1 * tangent[0], rtol=1e-8, atol=1e-9)


def test_where_a_parameter_has_never_had_a_gradient_adam_responds_by_its_epsilon_alone():
    param = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    base = torch.optim.Adam([param], lr=0.1, eps=1e-3)
    [answer] = sensitivity.response(base, [param], [torch.zeros(2).double()], [torch.ones(2).double()])
    # u(g) = g/(|g| + ε) near 0, so du/dg = 1/ε
    torch.testing.assert_close(answer, torch.full((2,), -0.1 / 1e-3, dtype=torch.float64))
