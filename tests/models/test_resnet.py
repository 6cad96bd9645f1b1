"""The stem of ResNets, and where their weights come from."""

import pytest
import torch
from torch import nn
from torchvision import models

from lets_runner.models import resnet18, resnet50


def stem(model):
    return nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)


@pytest.mark.parametrize("build", [resnet18, resnet50])
@pytest.mark.parametrize(("side", "kept"), [(32, 32), (64, 64), (65, 17), (224, 56)])
def test_the_stem_follows_the_size_of_the_images(build, side, kept):
    with torch.device("meta"):
        model = build((3, side, side), 10)
        assert stem(model)(torch.empty(1, 3, side, side)).shape == (1, 64, kept, kept)


@pytest.mark.parametrize(("name", "kept"), [("cifar", 80), ("imagenet", 20)])
def test_the_stem_can_be_chosen(name, kept):
    with torch.device("meta"):
        assert stem(resnet18((1, 80, 80), 10, stem=name))(torch.empty(1, 1, 80, 80)).shape == (1, 64, kept, kept)


def test_the_weights_are_torchvision_s():
    """Those of the stem follow the rest, as they always have: a seed's network stays what it was."""
    torch.manual_seed(0)
    ours = resnet18((3, 32, 32), 10)
    torch.manual_seed(0)
    theirs = models.resnet18(num_classes=10)
    first = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
    theirs.conv1 = first
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    torch.manual_seed(0)
    ours = resnet18((3, 224, 224), 10)
    torch.manual_seed(0)
    theirs = models.resnet18(num_classes=10)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
