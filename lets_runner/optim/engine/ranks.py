"""The processes that share a batch: gradients are averaged by the model's own wrapper, the rest is done here.

`DistributedDataParallel` and FSDP2's `fully_shard` average gradients in `backward`. Losses and batch-norm statistics
are averaged here, so that every process ("rank") sees the same numbers and makes the same decisions.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

MESSAGE = 25 * 2**20  # bytes averaged in one message, about


class Alone:
    """One process."""

    size = 1
    whole_weights = True  # on every rank

    def reducing(self, now: bool) -> AbstractContextManager:
        """Whether a `backward` inside leaves the mean gradient of all ranks, or keeps this rank's to itself for now."""
        return nullcontext()

    def mean_(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor by its mean over the ranks."""


class Ranks(Alone):
    """The ranks over which the batch of `model` is spread; `group` is their process group."""

    def __init__(self, model: Any, group: Any):
        from torch import distributed

        self._distributed = distributed
        self.model, self.group = model, group
        self.size = distributed.get_world_size(group)

    def mean_(self, tensors: Iterable[Tensor]) -> None:
        sent = []
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            sent.append((bucket, flat, self._distributed.all_reduce(flat, group=self.group, async_op=True)))
        for bucket, flat, work in sent:
            work.wait()
            parts = (flat / self.size).split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))


class DataParallel(Ranks):
    """Under `DistributedDataParallel`: every rank has the whole weights."""

    def reducing(self, now: bool) -> AbstractContextManager:
        return nullcontext() if now else self.model.no_sync()


class FullySharded(Ranks):
    """Under FSDP2: every rank has a part of the weights."""

    whole_weights = False

    @contextmanager
    def reducing(self, now: bool) -> Iterator[None]:
        self.model.set_requires_gradient_sync(now)
        try:
            yield
        finally:
            self.model.set_requires_gradient_sync(True)


def ranks_of(model: nn.Module | None) -> Alone:
    """Who shares the batches of `model`.

    Raises:
        ValueError: the wrapper around the model is set up so that a step could not be right.
    """
    if model is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return Alone()
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    if isinstance(model, nn.parallel.DistributedDataParallel):
        if model.gradient_as_bucket_view:
            raise ValueError(
                "DistributedDataParallel(gradient_as_bucket_view=True) overwrites the first gradient of a step with "
                "the second: leave it off"
            )
        return DataParallel(model, model.process_group)
    sharded = next((p for p in model.parameters() if hasattr(p, "device_mesh")), None)
    if sharded is None:
        return Alone()
    if not hasattr(model, "set_requires_gradient_sync") or sharded.device_mesh.ndim != 1:
        raise ValueError("sharded weights must come from fully_shard(model) over a mesh of one dimension")
    return FullySharded(model, sharded.device_mesh.get_group())


def _buckets(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Tensors of one type, in their order, in lists of at most about `MESSAGE` bytes."""
    buckets: list[list[Tensor]] = []
    left = 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if not buckets or buckets[-1][0].dtype != tensor.dtype or size > left:
            buckets.append([])
            left = MESSAGE
        buckets[-1].append(tensor)
        left -= size
    return buckets
