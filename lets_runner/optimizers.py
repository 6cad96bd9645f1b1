"""Base optimizers beside those of torch."""

from collections.abc import Iterable

from torch import Tensor
from torch.optim import AdamW


def adamw(
    params: Iterable[Tensor],
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    amsgrad: bool = False,
    fused: bool | None = None,
) -> AdamW:
    """AdamW as transformers are trained: matrices decay; norms and biases, of fewer than two dimensions, do not.

    It is torch's, with two groups of parameters. ρ, ε̂ and all norms are those of both groups together, as ever.
    """
    params = list(params)
    decay = [{"params": [p for p in params if p.ndim >= 2], "weight_decay": weight_decay}]
    decay += [{"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0}]
    groups = [group for group in decay if group["params"]]
    return AdamW(groups, lr=lr, betas=betas, eps=eps, amsgrad=amsgrad, fused=fused)
