"""PyramidNets (Han, Kim & Kim 2017, arXiv 1610.02915), whose every block is a little wider, for small images."""

from torch import Tensor, nn
from torch.nn import functional as F

from lets_runner.models.initial import he_normal
from lets_runner.models.shape import image_shape


class PyramidNet(nn.Sequential):
    """The additive PyramidNet: three groups of blocks, the last two of which halve the image.

    Input (B, *shape), output (B, outputs). The k-th of N blocks has ⌊16 + `alpha`·k/N⌋ channels, as in the paper
    (the authors' programs round), and four times as many at its end if it is a bottleneck.

    Args:
        depth: layers; a basic block has two, a bottleneck three.
        alpha: channels gained from the first layer to the last block.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        *,
        depth: int = 110,
        alpha: float = 270,
        bottleneck: bool = False,
    ):
        period, examples = (9, "164, 200 or 272") if bottleneck else (6, "20, 56 or 110")
        group, rest = divmod(depth - 2, period)
        if group < 1 or rest:
            raise ValueError(f"depth={depth}: must be 2 more than a multiple of {period}, such as {examples}")
        if alpha < 0:
            raise ValueError(f"alpha={alpha}: must be at least 0")
        layers: list[nn.Module] = [nn.Conv2d(image_shape(shape)[0], 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)]
        fan_in, blocks = 16, 3 * group
        for number in range(blocks):
            width = int(16 + alpha * (number + 1) / blocks)
            fan_out = 4 * width if bottleneck else width
            layers.append(_Block(fan_in, width, fan_out, stride=2 if number in (group, 2 * group) else 1))
            fan_in = fan_out
        layers += [nn.BatchNorm2d(fan_in), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fan_in, outputs)]
        super().__init__(*layers)
        he_normal(self)


class _Block(nn.Module):
    """Normalised convolutions without an activation before the first or after the last.

    Two of 3×3, or, if it ends wider than it is, 3×3 between two of 1×1.
    """

    def __init__(self, fan_in: int, width: int, fan_out: int, *, stride: int):
        super().__init__()
        self.stride = stride
        if fan_out == width:
            convolutions = [_convolution(fan_in, width, 3, stride), _convolution(width, width, 3)]
        else:
            middle = _convolution(width, width, 3, stride)
            convolutions = [_convolution(fan_in, width, 1), middle, _convolution(width, fan_out, 1)]
        layers: list[nn.Module] = [nn.BatchNorm2d(fan_in), convolutions[0]]
        for convolution in convolutions[1:]:
            layers += [nn.BatchNorm2d(width), nn.ReLU(), convolution]
        self.residual = nn.Sequential(*layers, nn.BatchNorm2d(fan_out))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.residual(x)
        if self.stride == 2:
            x = F.avg_pool2d(x, 2, ceil_mode=True)  # rounds odd sizes up, as the convolution does
        # The shortcut has no weights: the channels that the input lacks are zero.
        return residual + F.pad(x, (0, 0, 0, 0, 0, residual.shape[1] - x.shape[1]))


def _convolution(fan_in: int, fan_out: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(fan_in, fan_out, size, stride=stride, padding=size // 2, bias=False)
