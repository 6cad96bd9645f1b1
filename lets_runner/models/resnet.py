"""ResNets (He et al. 2016, arXiv 1512.03385) from torchvision, with the stem that suits CIFAR's 32×32 pixels."""

from collections.abc import Callable

from torch import nn

from lets_runner.models.shape import image_shape


def resnet18(shape: tuple[int, ...], outputs: int, *, stem: str = "auto") -> nn.Module:
    """ResNet-18: input (B, *shape), output (B, outputs).

    Args:
        stem: "cifar" for a 3×3 convolution of stride 1 and no pooling, "imagenet" for 7×7, stride 2, and pooling,
            "auto" for the first on images of up to 64 pixels and the second on larger ones.
    """
    from torchvision import models

    return _with_stem(models.resnet18, shape, outputs, stem)


def resnet50(shape: tuple[int, ...], outputs: int, *, stem: str = "auto") -> nn.Module:
    """ResNet-50, of bottlenecks: input (B, *shape), output (B, outputs); `stem` as for `resnet18`."""
    from torchvision import models

    return _with_stem(models.resnet50, shape, outputs, stem)


def _with_stem(build: Callable[..., nn.Module], shape: tuple[int, ...], outputs: int, stem: str) -> nn.Module:
    if stem not in ("auto", "cifar", "imagenet"):
        raise ValueError(f"stem={stem}: must be auto, cifar or imagenet")
    channels, *size = image_shape(shape)
    if stem == "auto":
        stem = "cifar" if max(size) <= 64 else "imagenet"
    model = build(num_classes=outputs)
    if stem == "cifar":
        model.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    elif channels != 3:
        model.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    else:
        return model
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    return model
