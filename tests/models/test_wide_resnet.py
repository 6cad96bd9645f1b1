"""Wide ResNets: resolutions, channels, a block against its definition, and the spread of the first weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lets_runner.models import WideResNet
from lets_runner.models.wide_resnet import _Block

CIFAR = (3, 32, 32)


def test_groups_widen_and_halve():
    with torch.device("meta"):
        model = WideResNet(CIFAR, 10)
        shapes, x = [], torch.empty(1, *CIFAR)
        for layer in model:
            x = layer(x)
            if isinstance(layer, _Block):
                shapes.append(tuple(x.shape[1:]))
    assert shapes == [(160, 32, 32)] * 4 + [(320, 16, 16)] * 4 + [(640, 8, 8)] * 4


def test_depth_counts_the_convolutions():
    with torch.device("meta"):
        assert sum(isinstance(m, nn.Conv2d) for m in WideResNet(CIFAR, 10).modules()) == 28


@pytest.mark.parametrize(("fan_in", "fan_out", "stride"), [(4, 4, 1), (4, 6, 1), (4, 4, 2)])
def test_a_block_is_as_in_the_paper(fan_in, fan_out, stride):
    block = _Block(fan_in, fan_out, stride, 0.0).double()
    x = torch.randn(3, fan_in, 8, 8, dtype=torch.float64)
    first, last = block.residual[0].weight, block.residual[-1].weight

    def activate(y):
        y = (y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
        return y.clamp(min=0)

    active = activate(x)
    if (fan_in, stride) == (fan_out, 1):
        shortcut = x
    else:
        shortcut = torch.einsum("oi,bihw->bohw", block.project.weight[:, :, 0, 0], active)[:, :, ::stride, ::stride]
    hidden = F.conv2d(active, first, stride=stride, padding=1)
    torch.testing.assert_close(block(x), shortcut + F.conv2d(activate(hidden), last, padding=1))


def test_dropout_stands_between_the_convolutions():
    model = WideResNet(CIFAR, 10, depth=10, width=1, dropout=0.3)
    kinds = [type(m) for m in model[1].residual]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Dropout, nn.Conv2d]
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.3}


def test_convolutions_start_as_he_et_al_have_it():
    torch.manual_seed(0)
    for module in WideResNet(CIFAR, 10, depth=10, width=4).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
