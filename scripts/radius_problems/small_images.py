"""Problems for `scripts/radius_study.py` that are real photographs and yet a matter of seconds on one core.

Plugged into `lets-train` from here, by yaml alone: `PYTHONPATH=scripts/radius_problems lets-train --config-dir
scripts/radius_problems/conf data=cifar10_small model=resnet8`.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

from lets_runner.data import CIFAR10, CIFAR100, Examples
from lets_runner.data.cifar import CIFAR
from lets_runner.data.splits import stratified

SIDE = 16  # pixels: every 2×2 of the published ones become their mean
SUBSET_SEED = 0


class Small(CIFAR):
    """Part of a data set, of every class as much, at 16×16 pixels; `train_images` are split for validation as ever."""

    shape = (3, SIDE, SIDE)

    def __init__(self, *, train_images: int, test_images: int, **settings: Any):
        super().__init__(**settings)
        self.train_images, self.test_images = train_images, test_images

    def read(self) -> tuple[Examples, Examples]:
        train, test = super().read()
        return smaller(train, self.train_images), smaller(test, self.test_images)


class SmallCIFAR10(Small, CIFAR10):
    """Ten classes."""


class SmallCIFAR100(Small, CIFAR100):
    """A hundred classes."""


def smaller(examples: Examples, count: int) -> Examples:
    """`count` of the examples, of every class as many, at `SIDE` pixels."""
    _, kept = stratified(examples.targets, count / len(examples), seed=SUBSET_SEED)
    images = functional.avg_pool2d(examples.inputs[kept].float(), examples.inputs.shape[-1] // SIDE)
    return Examples(images.round().to(torch.uint8), examples.targets[kept])


class ResNet8(nn.Sequential):
    """A stem of stride 2 and three basic blocks of 16, 32 and 64 channels: 78,042 parameters for ten classes."""

    def __init__(self, shape: tuple[int, int, int], classes: int):
        super().__init__(
            nn.Conv2d(shape[0], 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            BasicBlock(16, 16),
            BasicBlock(16, 32, 2, projection(16, 32)),
            BasicBlock(32, 64, 2, projection(32, 64)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def projection(fan_in: int, fan_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(fan_in, fan_out, 1, stride=2, bias=False), nn.BatchNorm2d(fan_out))
