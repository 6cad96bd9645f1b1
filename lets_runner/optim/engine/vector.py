"""Lists of tensors as one long vector, so that an optimizer reads like its equation.

Every function takes lists of equal length whose tensors match in shape. Reductions accumulate in float32 at
least and return 0-dim tensors: nothing here waits for an accelerator. The tensors may be sharded over processes
(`DTensor`, as FSDP2 makes of parameters); a reduction is then over all shards, the same on every process.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Vector = list[Tensor] | tuple[Tensor, ...]


def norm(x: Vector) -> Tensor:
    """‖x‖₂ over all tensors together."""
    own = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(_own(x), 2, dtype=_accumulator(x))))
    return _over_shards(own.square(), x).sqrt() if is_sharded(x[0]) else own


def dot(x: Vector, y: Vector) -> Tensor:
    """⟨x, y⟩. The tensors one by one: on a CPU ten times faster than joined; on an accelerator it is the other way."""
    one_by_one = x[0].device.type == "cpu" or x[0].requires_grad or x[0].dtype != _accumulator(x)
    own = (dot_one_by_one if one_by_one else dot_joined)(_own(x), _own(y))
    return _over_shards(own, x) if is_sharded(x[0]) else own


def dot_one_by_one(x: Vector, y: Vector) -> Tensor:
    dtype = _accumulator(x)
    products = [torch.dot(a.flatten().to(dtype), b.flatten().to(dtype)) for a, b in zip(x, y, strict=True)]
    return torch.stack(products).sum()


def dot_joined(x: Vector, y: Vector) -> Tensor:
    """A handful of kernels for any number of tensors."""
    return torch.cat([_elements(product) for product in torch._foreach_mul(x, y)]).sum()


def _elements(tensor: Tensor) -> Tensor:
    """All elements in the order in which they lie in memory, without a copy where they lie side by side."""
    if tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)):
        return tensor.as_strided((tensor.numel(),), (1,))
    return tensor.flatten()


def scaled(x: Vector, scale: Tensor | float) -> Vector:
    """Scale · x, as new tensors in x's own dtypes."""
    if isinstance(scale, Tensor):
        return torch._foreach_mul(x, scale.to(_accumulator(x)))  # float32 tensors want a float32 scalar to stay fast
    return torch._foreach_mul(x, scale)


def times(x: Vector, y: Vector) -> Vector:
    """X ⊙ y, elementwise."""
    return torch._foreach_mul(x, y)


def weighted(x: Vector, weights: Sequence[Any]) -> Vector:
    """One factor a tensor: numbers, or 0-dim tensors."""
    if isinstance(weights[0], Tensor):
        weights = [weight.to(tensor.dtype) for tensor, weight in zip(x, weights, strict=True)]
    return torch._foreach_mul(x, weights)


def plus(x: Vector, y: Vector) -> Vector:
    """x + y."""
    return torch._foreach_add(x, y)


def minus(x: Vector, y: Vector) -> Vector:
    """X − y."""
    return torch._foreach_sub(x, y)


def mean(several: Sequence[Vector]) -> Vector:
    """The mean of vectors; of a single one, that one itself."""
    if len(several) == 1:
        return several[0]
    total = list(torch._foreach_add(several[0], several[1]))
    for x in several[2:]:
        torch._foreach_add_(total, x)
    return torch._foreach_div(total, len(several))


def mean_over(params: Vector, parts: Sequence[tuple[Vector, Vector]]) -> Vector:
    """The mean of vectors that each come with the parameters they run over; of the others they count as zero."""
    full = []
    for reached, values in parts:
        known = dict(zip(reached, values, strict=True))
        full.append([known[p] if p in known else torch.zeros_like(p) for p in params])
    return mean(full)


def add_(x: Vector, y: Vector) -> None:
    """X ← x + y."""
    torch._foreach_add_(x, y)


def copy_(x: Vector, y: Vector) -> None:
    """X ← y, to the bit."""
    torch._foreach_copy_(_own(x), _own(y))


def is_sharded(tensor: Any) -> bool:
    """Whether this is a `DTensor`; asked so that nobody has to load `torch.distributed.tensor` who has none."""
    return hasattr(tensor, "device_mesh")


def sharded_like(whole: Tensor, param: Any) -> Tensor:
    """`whole` as it is, or this process's shard of it where `param` is sharded."""
    if not is_sharded(param) or is_sharded(whole):
        return whole
    from torch.distributed.tensor import distribute_tensor

    # Without a source nobody sends: every process has the whole tensor, of which its shard would be a view.
    return distribute_tensor(whole.to(param.device), param.device_mesh, param.placements, src_data_rank=None).clone()


def _own(x: Vector) -> Vector:
    """The shards of this process, sharing memory with `x`; `x` itself where nothing is sharded."""
    shards: Any = x
    return [shard.to_local() for shard in shards] if is_sharded(x[0]) else x


def _over_shards(own: Tensor, x: Vector) -> Tensor:
    """The sum over all shards of a number that each process has of its own."""
    from torch.distributed.tensor import DTensor, Partial, Replicate

    like: Any = x[0]
    placements = [Partial() if placement.is_shard() else Replicate() for placement in like.placements]
    return DTensor.from_local(own, like.device_mesh, placements, run_check=False).full_tensor()


def _accumulator(x: Vector) -> torch.dtype:
    return torch.promote_types(x[0].dtype, torch.float32)
