"""A small convolutional network for small images."""

from torch import nn

from lets_runner.models.shape import image_shape


class ConvNet(nn.Sequential):
    """Two stages of 3×3 convolutions, each halving the image, and a linear layer.

    Input (B, *shape), output (B, outputs). Channels are `width`, then twice as many.

    Args:
        batch_norm: normalise after every convolution.
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, *, width: int = 16, batch_norm: bool = False):
        channels, height, rows = image_shape(shape)
        if width < 1:
            raise ValueError(f"width={width}: must be at least 1")
        if min(height, rows) < 4:
            raise ValueError(f"images of {height}×{rows} pixels are too small to be halved twice")
        super().__init__(
            *_stage(channels, width, batch_norm),
            *_stage(width, 2 * width, batch_norm),
            nn.Flatten(),
            nn.Linear(2 * width * (height // 4) * (rows // 4), outputs),
        )


def _stage(fan_in: int, fan_out: int, batch_norm: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=not batch_norm)
    norm = [nn.BatchNorm2d(fan_out)] if batch_norm else []
    return [convolution, *norm, nn.ReLU(), nn.MaxPool2d(2)]
