"""Architectures, each built from the shape of an example and how many numbers it gives for one."""

from lets_runner.models.catalogue import timm_model, torchvision_model
from lets_runner.models.convnet import ConvNet
from lets_runner.models.marian import marian
from lets_runner.models.mlp import MLP
from lets_runner.models.pyramidnet import PyramidNet
from lets_runner.models.resnet import resnet18, resnet50
from lets_runner.models.text import auto_text
from lets_runner.models.vit import vit
from lets_runner.models.wide_resnet import WideResNet

__all__ = [
    "MLP",
    "ConvNet",
    "PyramidNet",
    "WideResNet",
    "auto_text",
    "marian",
    "resnet18",
    "resnet50",
    "timm_model",
    "torchvision_model",
    "vit",
]
