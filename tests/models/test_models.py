"""Architectures: shapes, sizes, seeds and what is refused."""

from functools import partial

import pytest
import torch

from lets_runner.models import (
    MLP,
    ConvNet,
    PyramidNet,
    WideResNet,
    resnet18,
    resnet50,
    timm_model,
    torchvision_model,
    vit,
)

DIGITS, CIFAR, IMAGENET = (1, 8, 8), (3, 32, 32), (3, 224, 224)
PYRAMID272 = {"depth": 272, "alpha": 200, "bottleneck": True}
# Every architecture, as small as it gets.
SMALL = {
    "mlp": partial(MLP, width=8),
    "convnet": partial(ConvNet, width=4),
    "resnet18": resnet18,
    "wide_resnet": partial(WideResNet, depth=10, width=2),
    "pyramidnet": partial(PyramidNet, depth=8, alpha=9),
    "pyramidnet_bottleneck": partial(PyramidNet, depth=11, alpha=9, bottleneck=True),
    "vit": partial(vit, depth=2, width=12, heads=3),
    "torchvision": partial(torchvision_model, name="shufflenet_v2_x0_5"),
    "timm": partial(timm_model, name="test_vit"),
}


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("build", "shape", "classes", "parameters"),
    [
        (MLP, DIGITS, 10, 65 * 128 + 129 * 128 + 129 * 10),
        (partial(MLP, depth=0), DIGITS, 10, 65 * 10),
        (ConvNet, DIGITS, 10, 10 * 16 + (9 * 16 + 1) * 32 + (32 * 4 + 1) * 10),
        (partial(ConvNet, batch_norm=True), DIGITS, 10, 9 * 16 + 32 + 9 * 16 * 32 + 64 + (32 * 4 + 1) * 10),
        (partial(ConvNet, width=4), CIFAR, 7, 28 * 4 + 37 * 8 + (8 * 64 + 1) * 7),
        (partial(WideResNet, depth=10, width=1), DIGITS, 10, 77_562),
        (partial(vit, depth=1, width=12, heads=3), DIGITS, 10, (16 + 1) * 12 + 12 + 5 * 12 + 1884 + 24 + 130),
        # With ten classes on CIFAR and a thousand on ImageNet, millions of parameters as in the papers:
        (resnet18, CIFAR, 10, 11_173_962),  # 11.2, He et al.'s with a 3×3 stem
        (resnet18, IMAGENET, 1000, 11_689_512),  # 11.7
        (resnet50, CIFAR, 10, 23_520_842),
        (resnet50, IMAGENET, 1000, 25_557_032),  # 25.6
        (WideResNet, CIFAR, 10, 36_479_194),  # 36.5
        (partial(WideResNet, depth=40, width=4), CIFAR, 10, 8_949_210),  # 8.9
        (partial(WideResNet, depth=16, width=8), CIFAR, 10, 10_961_370),  # 11.0
        (PyramidNet, CIFAR, 10, 28_485_477),  # 28.3 in the paper's table, 28.5 by its own equations
        (partial(PyramidNet, alpha=48), CIFAR, 10, 1_739_730),  # 1.7
        (partial(PyramidNet, **PYRAMID272), CIFAR, 10, 26_049_562),  # 26.0
        (vit, CIFAR, 10, 21_342_346),
        (vit, IMAGENET, 1000, 22_050_664),  # 22, DeiT-S
    ],
)
def test_shape_and_size(build, shape, classes, parameters):
    with torch.device("meta"):
        model = build(shape, classes)
        assert model(torch.empty(2, *shape)).shape == (2, classes)
    assert count(model) == parameters


@pytest.mark.parametrize(
    ("build", "shape", "classes", "millions"),
    [
        (WideResNet, CIFAR, 10, 36.5),
        (partial(PyramidNet, **PYRAMID272), CIFAR, 10, 26.0),
        (resnet50, IMAGENET, 1000, 25.6),
        (vit, IMAGENET, 1000, 22.1),
    ],
)
def test_sizes_are_the_published_ones(build, shape, classes, millions):
    with torch.device("meta"):
        assert round(count(build(shape, classes)) / 1e6, 1) == millions


def test_pyramidnet110_is_within_a_percent_of_its_table():
    with torch.device("meta"):
        assert 28.3e6 < count(PyramidNet(CIFAR, 10)) < 1.01 * 28.3e6


@pytest.mark.parametrize("build", SMALL.values(), ids=SMALL)
def test_weights_come_from_the_seed(build):
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(torch.cat([p.detach().flatten() for p in build(CIFAR, 10).parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("build", SMALL.values(), ids=SMALL)
def test_every_parameter_has_a_gradient(build):
    torch.manual_seed(0)
    model = build(CIFAR, 10)
    torch.nn.functional.cross_entropy(model(torch.randn(4, *CIFAR)), torch.arange(4)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", ["wide_resnet", "vit"])
def test_dropout_drops_in_training_alone(name):
    model = SMALL[name](CIFAR, 10, dropout=0.5)
    x = torch.randn(4, *CIFAR)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (MLP, {"width": 0}, "width=0"),
        (MLP, {"depth": -1}, "depth=-1"),
        (ConvNet, {"width": 0}, "width=0"),
        (resnet18, {"stem": "tiny"}, "stem=tiny: must be auto, cifar or imagenet"),
        (resnet50, {"stem": "tiny"}, "stem=tiny"),
        (WideResNet, {"depth": 27}, "depth=27: must be 4 more than a multiple of 6, such as 16, 28 or 40"),
        (WideResNet, {"depth": 4}, "depth=4"),
        (WideResNet, {"width": 0}, "width=0: must be at least 1"),
        (WideResNet, {"dropout": 1.0}, r"dropout=1.0: must lie in \[0, 1\)"),
        (PyramidNet, {"depth": 111}, "depth=111: must be 2 more than a multiple of 6, such as 20, 56 or 110"),
        (PyramidNet, {"depth": 2}, "depth=2"),
        (PyramidNet, {"depth": 50, "bottleneck": True}, "depth=50: must be 2 more than a multiple of 9, such as 164"),
        (PyramidNet, {"alpha": -1}, "alpha=-1: must be at least 0"),
        (vit, {"patch": 5}, "patch=5: must be auto, or a number that divides the image's 32 pixels"),
        (vit, {"patch": 0}, "patch=0"),
        (vit, {"patch": "small"}, "patch=small"),
        (vit, {"heads": 5}, "depth=12, width=384, heads=5"),
        (vit, {"depth": 0}, "depth=0"),
        (vit, {"dropout": -0.1}, "dropout=-0.1"),
    ],
)
def test_refuses(build, settings, message):
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        build(CIFAR, 10, **settings)


def test_images_too_small_to_halve_are_refused():
    with pytest.raises(ValueError, match="too small"):
        ConvNet((1, 3, 3), 10)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "mlp"])
def test_models_of_images_refuse_vectors_and_say_what_takes_them(name):
    with pytest.raises(ValueError, match=r"takes images, and an example is of the shape \(5,\): take model=mlp"):
        SMALL[name]((5,), 3)


def test_a_perceptron_takes_vectors():
    assert MLP((5,), 2, width=8)(torch.zeros(4, 5)).shape == (4, 2)
