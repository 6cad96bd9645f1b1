"""How the weights of convolutions start."""

from torch import nn


def he_normal(model: nn.Module) -> None:
    """Draw every convolution's weights from N(0, 2/fan_out) (He et al. 2015, arXiv 1502.01852, section 2.2)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
