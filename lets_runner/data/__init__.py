"""Data sets and the loaders that make batches of them on the training device."""

from lets_runner.data.augment import Augmentation
from lets_runner.data.cifar import CIFAR10, CIFAR100
from lets_runner.data.digits import Digits
from lets_runner.data.files import BrokenImage, FileLoader, Files
from lets_runner.data.imagenet import ImageNet
from lets_runner.data.images import ImageData
from lets_runner.data.labelled import LabelledData
from lets_runner.data.loader import DeviceLoader, TensorLoader
from lets_runner.data.splits import Data, Examples, SplitData, Splits
from lets_runner.data.stream import Share
from lets_runner.data.table import LabelledTable, Table
from lets_runner.data.text.glue import GLUE
from lets_runner.data.text.parallel import ParallelText
from lets_runner.data.transforms import Transform, transform_of

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "GLUE",
    "Augmentation",
    "BrokenImage",
    "Data",
    "DeviceLoader",
    "Digits",
    "Examples",
    "FileLoader",
    "Files",
    "ImageData",
    "ImageNet",
    "LabelledData",
    "LabelledTable",
    "ParallelText",
    "Share",
    "SplitData",
    "Splits",
    "Table",
    "TensorLoader",
    "Transform",
    "transform_of",
]
