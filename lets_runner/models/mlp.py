"""A multilayer perceptron on vectors, and on anything else flattened."""

from torch import nn

from lets_runner.models.shape import flat_size


class MLP(nn.Sequential):
    """`depth` hidden ReLU layers of `width` units; input (B, *shape), output (B, outputs)."""

    def __init__(self, shape: tuple[int, ...], outputs: int, *, width: int = 128, depth: int = 2):
        if width < 1 or depth < 0:
            raise ValueError(f"width={width}, depth={depth}: needs width >= 1 and depth >= 0")
        sizes = [flat_size(shape), *[width] * depth]
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        super().__init__(*layers, nn.Linear(sizes[-1], outputs))
