"""From bytes to the numbers that networks take."""

import torch
from torch import Tensor


class Normalisation:
    """uint8 images (B, C, H, W) to float32 on their device: (x/255 − mean)/std, channel by channel."""

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], *, device: torch.device, channels_last: bool = False
    ):
        factor = torch.tensor(std, device=device).reciprocal()
        self._scale = (factor / 255).view(-1, 1, 1)
        self._shift = (-torch.tensor(mean, device=device) * factor).view(-1, 1, 1)
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        # A CPU computes in the one where a channel is one long row; a GPU saves a kernel.
        self._while_computing = torch.contiguous_format if device.type == "cpu" else self._memory_format

    def __call__(self, images: Tensor) -> Tensor:
        pixels = images.to(torch.float32, memory_format=self._while_computing)
        return pixels.mul_(self._scale).add_(self._shift).contiguous(memory_format=self._memory_format)
