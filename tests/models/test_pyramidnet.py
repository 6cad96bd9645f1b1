"""PyramidNets: channels, resolutions, a block against its definition, and the spread of the first weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lets_runner.models import PyramidNet
from lets_runner.models.pyramidnet import _Block

CIFAR = (3, 32, 32)


def shapes(**settings):
    """Channels and resolution after every block."""
    with torch.device("meta"):
        x, seen = torch.empty(1, *CIFAR), []
        for layer in PyramidNet(CIFAR, 10, **settings):
            x = layer(x)
            if isinstance(layer, _Block):
                seen.append((x.shape[1], x.shape[2]))
    return seen


def test_channels_grow_by_the_same_number_in_every_block():
    channels, sides = zip(*shapes(), strict=True)
    assert channels == tuple(range(21, 287, 5))  # 16 + 5k, up to 16 + 270
    assert sides == (32,) * 18 + (16,) * 18 + (8,) * 18


def test_bottlenecks_are_four_times_as_wide_at_their_end():
    channels, sides = zip(*shapes(depth=272, alpha=200, bottleneck=True), strict=True)
    assert channels == tuple(4 * (16 + 200 * k // 90) for k in range(1, 91))
    assert channels[-1] == 4 * 216
    assert sides == (32,) * 30 + (16,) * 30 + (8,) * 30


@pytest.mark.parametrize(("settings", "depth"), [({}, 110), ({"depth": 272, "bottleneck": True}, 272)])
def test_depth_counts_the_layers(settings, depth):
    with torch.device("meta"):
        layers = [m for m in PyramidNet(CIFAR, 10, **settings).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


@pytest.mark.parametrize(("fan_in", "width", "fan_out"), [(4, 6, 6), (4, 3, 12)])
@pytest.mark.parametrize(("stride", "side"), [(1, 7), (2, 8), (2, 7)])
def test_a_block_is_as_in_the_paper(fan_in, width, fan_out, stride, side):
    block = _Block(fan_in, width, fan_out, stride=stride).double()
    x = torch.randn(3, fan_in, side, side, dtype=torch.float64)

    def norm(y):
        return (y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()

    weights = [m.weight for m in block.residual if isinstance(m, nn.Conv2d)]
    assert [w.shape[-1] for w in weights] == ([3, 3] if fan_out == width else [1, 3, 1])
    strides = (stride, 1) if fan_out == width else (1, stride, 1)
    y = norm(x)
    for number, (weight, s) in enumerate(zip(weights, strides, strict=True)):
        y = norm(y).clamp(min=0) if number else y
        y = F.conv2d(y, weight, stride=s, padding=weight.shape[-1] // 2)
    expected = norm(y)
    half = -(-side // stride)
    assert expected.shape == (3, fan_out, half, half)
    for row in range(half):
        for column in range(half):
            there = x[:, :, row * stride : (row + 1) * stride, column * stride : (column + 1) * stride]
            expected[:, :fan_in, row, column] += there.mean((2, 3))
    torch.testing.assert_close(block(x), expected)


def test_convolutions_start_as_he_et_al_have_it():
    torch.manual_seed(0)
    for module in PyramidNet(CIFAR, 10, depth=11, alpha=90, bottleneck=True).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
