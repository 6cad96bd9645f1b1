"""Networks of torchvision and timm by their names: what they get, what is refused, and that a trial leaves no trace."""

import sys
from functools import partial

import pytest
import timm
import torch
from torchvision import models

from lets_runner.models import timm_model, torchvision_model

CIFAR, DIGITS = (3, 32, 32), (1, 8, 8)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (partial(torchvision_model, name="squeezenet1_1"), CIFAR),
        (partial(torchvision_model, name="googlenet"), CIFAR),  # a tuple in training, if its settings were left alone
        (partial(torchvision_model, name="vit_b_32"), (3, 64, 64)),  # for 224 pixels, likewise
        (partial(torchvision_model, name="maxvit_t"), (3, 448, 448)),
        (partial(timm_model, name="test_resnet"), CIFAR),
        (partial(timm_model, name="test_resnet"), DIGITS),
        (partial(timm_model, name="test_vit"), CIFAR),
        (partial(timm_model, name="test_vit", settings={"patch_size": 4}), DIGITS),
        (partial(timm_model, name="test_vit"), (2, 64, 32)),
        (partial(timm_model, name="swin_tiny_patch4_window7_224"), CIFAR),
    ],
)
def test_answers_in_training_are_one_row_of_logits_an_image(build, shape):
    with torch.device("meta"):
        out = build(shape, 7)(torch.empty(2, *shape))
    assert isinstance(out, torch.Tensor)
    assert out.shape == (2, 7)


def test_settings_reach_the_constructor():
    assert torchvision_model(CIFAR, 7, name="squeezenet1_1", settings={"dropout": 0.1}).classifier[0].p == 0.1
    assert timm_model(CIFAR, 7, name="test_resnet", settings={"drop_rate": 0.1}).drop_rate == 0.1


@pytest.mark.parametrize(
    ("build", "raw"),
    [
        (
            partial(torchvision_model, name="shufflenet_v2_x0_5"),
            partial(models.shufflenet_v2_x0_5, num_classes=10),
        ),
        (
            partial(timm_model, name="test_resnet", settings={"drop_rate": 0.5}),
            partial(timm.create_model, "test_resnet", num_classes=10, drop_rate=0.5),
        ),
    ],
)
def test_the_trial_leaves_no_trace(build, raw):
    """Weights, batch-norm statistics and the generator are as if nothing had gone through the network."""
    torch.manual_seed(0)
    ours = build(CIFAR, 10).state_dict()
    next_draw = torch.rand(1)
    torch.manual_seed(0)
    theirs = raw().state_dict()
    assert torch.equal(next_draw, torch.rand(1))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours.keys() | theirs.keys())


@pytest.mark.parametrize(
    ("build", "shape", "message"),
    [
        (partial(torchvision_model, name="resnet33"), CIFAR, "torchvision has no such classifier; did you mean resnet"),
        (partial(torchvision_model, name="fcn_resnet50"), CIFAR, "torchvision has no such classifier"),
        (partial(torchvision_model, name="zzz"), CIFAR, r"no such classifier; it has \d+, such as alexnet"),
        (partial(torchvision_model, name="resnet34"), DIGITS, "networks take 3 channels, the images have 1"),
        (partial(torchvision_model, name="alexnet"), CIFAR, "fails on images of 32×32 pixels: Given input size"),
        (partial(torchvision_model, name="maxvit_t"), CIFAR, "fails on images of 32×32 pixels: Input size"),
        (
            partial(torchvision_model, name="vit_b_32"),
            (3, 32, 64),
            "fails on images of 32×64 pixels: Wrong image width",
        ),
        (partial(timm_model, name="resnet27"), CIFAR, "timm has no such classifier; did you mean resnet"),
        (partial(timm_model, name="hf-hub:timm/resnet26"), CIFAR, "timm has no such classifier"),
        (partial(timm_model, name="bat_resnext26ts"), CIFAR, "fails on images of 32×32 pixels: AssertionError"),
        (partial(timm_model, name="test_vit", settings={"global_pool": ""}), CIFAR, r"not of the shape \(B, 7\)"),
    ],
)
def test_refuses(build, shape, message):
    with pytest.raises(ValueError, match=f"^name={build.keywords['name']}: .*{message}"), torch.device("meta"):
        build(shape, 7)


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (partial(torchvision_model, name="squeezenet1_1"), {"weights": "DEFAULT"}, "say it as model.pretrained=true"),
        (partial(timm_model, name="test_resnet"), {"pretrained": True}, "say it as model.pretrained=true"),
        (partial(timm_model, name="test_resnet"), {"checkpoint_path": "x.pt"}, "give the file as model.pretrained"),
        (partial(timm_model, name="test_resnet"), {"num_classes": 5}, "the data have so many classes as they have"),
    ],
)
def test_settings_that_are_not_the_user_s_are_refused(build, settings, message):
    with pytest.raises(ValueError, match=rf"settings\.{next(iter(settings))}: {message}"):
        build(CIFAR, 7, settings=settings)


def test_a_setting_that_the_constructor_does_not_have_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword"):
        timm_model(CIFAR, 7, name="test_resnet", settings={"nothing": 5})


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"name=resnet26: timm is not installed; pip install 'lets_runner\[timm\]'"):
        timm_model(CIFAR, 7, name="resnet26")
