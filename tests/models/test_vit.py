"""Vision transformers: patches, positions and the head."""

import pytest
import torch

from lets_runner.models import vit


@pytest.mark.parametrize(("side", "patch", "tokens"), [(8, 4, 4), (32, 4, 64), (64, 4, 256), (224, 16, 196)])
def test_patches_follow_the_size_of_the_images(side, patch, tokens):
    with torch.device("meta"):
        model = vit((3, side, side), 10)
    assert model.conv_proj.kernel_size == model.conv_proj.stride == (patch, patch)
    assert model.encoder.pos_embedding.shape == (1, tokens + 1, 384)  # and one for the class token


def test_the_sizes_are_those_of_vit_s():
    with torch.device("meta"):
        model = vit((3, 32, 32), 10)
    assert len(model.encoder.layers) == 12
    assert {layer.self_attention.num_heads for layer in model.encoder.layers} == {6}
    assert {layer.mlp[0].out_features for layer in model.encoder.layers} == {1536}


def test_a_patch_can_be_chosen():
    with torch.device("meta"):
        assert vit((3, 32, 32), 10, patch=8).encoder.pos_embedding.shape == (1, 17, 384)


def test_images_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match="images of 32×64 pixels are not square"):
        vit((3, 32, 64), 10)


def test_an_image_that_no_patch_fits_is_refused():
    with pytest.raises(ValueError, match="patch=16: must be auto, or a number that divides the image's 100 pixels"):
        vit((3, 100, 100), 10)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_weights(channels):
    torch.manual_seed(0)
    model = vit((channels, 32, 32), 100, depth=1)
    assert model.heads.head.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.conv_proj.weight.std().item() == pytest.approx((channels * 16) ** -0.5, rel=0.05)
    assert not model.conv_proj.bias.any()
