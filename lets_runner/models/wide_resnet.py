"""Wide ResNets (Zagoruyko & Komodakis 2016, arXiv 1605.07146), few layers and many channels, for small images."""

from torch import Tensor, nn

from lets_runner.models.initial import he_normal
from lets_runner.models.shape import image_shape


class WideResNet(nn.Sequential):
    """WRN-`depth`-`width`: three groups of (depth − 4)/6 blocks, the last two of which halve the image.

    Input (B, *shape), output (B, outputs). Channels are `width` times 16, 32 and 64.

    Args:
        dropout: share of values dropped between the two convolutions of a block, in training.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        *,
        depth: int = 28,
        width: int = 10,
        dropout: float = 0.0,
    ):
        blocks, rest = divmod(depth - 4, 6)
        if blocks < 1 or rest:
            raise ValueError(f"depth={depth}: must be 4 more than a multiple of 6, such as 16, 28 or 40")
        if width < 1:
            raise ValueError(f"width={width}: must be at least 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: must lie in [0, 1)")
        layers: list[nn.Module] = [nn.Conv2d(image_shape(shape)[0], 16, 3, padding=1, bias=False)]
        fan_in = 16
        for fan_out, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            for number in range(blocks):
                layers.append(_Block(fan_in, fan_out, stride if number == 0 else 1, dropout))
                fan_in = fan_out
        layers += [nn.BatchNorm2d(fan_in), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fan_in, outputs)]
        super().__init__(*layers)
        he_normal(self)


class _Block(nn.Module):
    """Normalise, activate, convolve, twice, and add the input; where sizes differ, a 1×1 convolution of it."""

    def __init__(self, fan_in: int, fan_out: int, stride: int, dropout: float):
        super().__init__()
        self.activate = nn.Sequential(nn.BatchNorm2d(fan_in), nn.ReLU())
        self.residual = nn.Sequential(
            nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(fan_out),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False),
        )
        same = fan_in == fan_out and stride == 1
        self.project = None if same else nn.Conv2d(fan_in, fan_out, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.activate(x)
        # As in the authors' program, the projection sees the activated input, the identity the raw one.
        shortcut = x if self.project is None else self.project(active)
        return shortcut + self.residual(active)
