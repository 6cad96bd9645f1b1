"""Vision transformers (Dosovitskiy et al. 2021, arXiv 2010.11929) from torchvision, for images of any size."""

from math import sqrt

from torch import nn

from lets_runner.models.shape import image_shape


def vit(
    shape: tuple[int, ...],
    outputs: int,
    *,
    patch: int | str = "auto",
    depth: int = 12,
    width: int = 384,
    heads: int = 6,
    dropout: float = 0.0,
) -> nn.Module:
    """A vision transformer, by default ViT-S of DeiT (arXiv 2012.12877): input (B, *shape), output (B, outputs).

    Args:
        patch: pixels along a side of a patch; "auto" is 4 for images of up to 64 pixels and 16 for larger ones.
        width: of the embedding; the hidden layers of the perceptrons have four times as many units.
        dropout: share of values dropped after the embedding, the attention and the perceptrons, in training.
    """
    from torchvision.models import VisionTransformer

    channels, size, columns = image_shape(shape)
    if size != columns:
        raise ValueError(f"images of {size}×{columns} pixels are not square, which a vision transformer needs")
    if patch == "auto":
        patch = 4 if size <= 64 else 16
    if not isinstance(patch, int) or patch < 1 or size % patch:
        raise ValueError(f"patch={patch}: must be auto, or a number that divides the image's {size} pixels")
    if min(depth, width, heads) < 1 or width % heads:
        raise ValueError(f"depth={depth}, width={width}, heads={heads}: must be at least 1, and heads divide the width")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout}: must lie in [0, 1)")
    model = VisionTransformer(size, patch, depth, heads, width, 4 * width, dropout=dropout, num_classes=outputs)
    # torchvision's head is zero, so that in the first step nothing but the head would have a gradient for SAM to climb
    # and a radius rule to learn from. It is drawn like the embedding of positions instead.
    nn.init.trunc_normal_(model.heads.head.weight, std=0.02)
    if channels != 3:
        model.conv_proj = nn.Conv2d(channels, width, patch, stride=patch)
        nn.init.trunc_normal_(model.conv_proj.weight, std=sqrt(1 / (channels * patch**2)))
        nn.init.zeros_(model.conv_proj.bias)
    return model
