"""The processes of a run: one, or those that `torchrun` started. Everything that they have to tell each other.

Each trains on its own part of every batch; process 0 leads, and alone writes. The weights are whole in every process
(`ddp`, DistributedDataParallel) or spread over them (`fsdp`, FSDP2's `fully_shard`).
"""

import gc
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from lets_runner.optim.engine.vector import is_sharded, sharded_like

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)  # for the slowest process: the first one may be downloading


class OtherProcessFailed(SystemExit):
    """The leading process has said what went wrong."""


class Processes:
    """One process, for which every collective is the identity; `Group` is for several."""

    rank, size = 0, 1
    shards_weights = False

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as it trains in these processes."""
        return model

    def only(self, action: Callable[[], T]) -> T | None:
        """Let the leading process act while the others wait; an error there ends all. Its result, None elsewhere."""
        return action()

    def first(self, action: Callable[[], T]) -> T:
        """Act here, but not before the leading process has: what it downloads is there for the others."""
        return action()

    def share(self, action: Callable[[], T]) -> T:
        """What comes of it in the leading process, everywhere."""
        return action()

    def agree(self, flag: bool) -> bool:
        """Whether any process has raised its flag. To be asked by all in every step; several learn it a step later."""
        return flag

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the processes."""
        return tensor

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in order."""
        return [value]

    def whole(self, state: Any) -> Any:
        """A state with every sharded tensor in it made whole, for a file that any number of processes can read."""
        return state

    def restore(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        """Load a whole state into a model that was wrapped."""
        bare = self.bare(model)
        own = bare.state_dict()
        bare.load_state_dict({name: sharded_like(tensor, own.get(name)) for name, tensor in state.items()})

    def bare(self, model: nn.Module) -> nn.Module:
        """The model inside its wrapper."""
        return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


ALONE = Processes()


class Group(Processes):
    """Several processes, as torch's default process group.

    Args:
        strategy: "ddp" or "fsdp".
        device: of this process.
        sync_batchnorm: normalise by the statistics of the whole batch instead of those of each process; GPUs only.
    """

    def __init__(self, strategy: str, device: torch.device, *, sync_batchnorm: bool = False):
        if not distributed.is_initialized():
            # Its functions take the group as a default argument. Imported later, as DistributedDataParallel does, they
            # would keep the group past the end of Python, and its threads with it, which may then abort the process.
            import torch.distributed.nn  # noqa: F401

            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            distributed.init_process_group(backend, timeout=PATIENCE)
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self.shards_weights = strategy == "fsdp"
        self.device, self.sync_batchnorm = device, sync_batchnorm
        self._flag: tuple[Tensor, Any] | None = None

    def wrap(self, model: nn.Module) -> nn.Module:
        if self.sync_batchnorm:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        if self.shards_weights:
            return self._shard(model)
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids)

    def _shard(self, model: nn.Module) -> nn.Module:
        """Shard block by block, inner ones first: one block's weights at a time are whole. The root has the rest."""
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        mesh = distributed.device_mesh.init_device_mesh(self.device.type, (self.size,))
        for container in reversed(list(model.modules())):
            if isinstance(container, nn.Sequential | nn.ModuleList) and container is not model:
                for block in container:
                    if any(True for _ in block.parameters()):
                        fully_shard(block, mesh=mesh)
        # The root too lets go after every forward pass: validation makes some without a backward pass.
        fully_shard(model, mesh=mesh, reshard_after_forward=True)
        if hasattr(model, "generate"):  # which runs parts of the model by themselves
            register_fsdp_forward_method(model, "generate")
        return model

    def only(self, action: Callable[[], T]) -> T | None:
        result, error = None, None
        if self.leads:
            try:
                result = action()
            except BaseException as caught:
                error = caught
        [failed] = self._broadcast(error is not None)
        if error is not None:
            raise error
        if failed:
            raise OtherProcessFailed(1)
        return result

    def first(self, action: Callable[[], T]) -> T:
        result: Any = self.only(action)
        return result if self.leads else action()

    def share(self, action: Callable[[], T]) -> T:
        [result] = self._broadcast(self.only(action))
        return result

    def agree(self, flag: bool) -> bool:
        before, raised = self._flag, torch.tensor(int(flag))
        self._flag = raised, distributed.all_reduce(raised, distributed.ReduceOp.MAX, async_op=True)
        if before is None:
            return False
        before[1].wait()
        return bool(before[0])

    def sum(self, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    def gather(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def whole(self, state: Any) -> Any:
        if isinstance(state, dict):
            return {key: self.whole(value) for key, value in state.items()}
        if isinstance(state, list | tuple):
            return type(state)(self.whole(value) for value in state)
        return state.full_tensor().cpu() if is_sharded(state) else state

    @staticmethod
    def _broadcast(value: Any) -> list[Any]:
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values


def part() -> None:
    """Leave the group, if there is one. Its threads end when nothing holds it any more: hence the collection."""
    if distributed.is_initialized():
        gc.collect()
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process among all, before it may have joined them."""
    return int(os.environ["RANK"]) if launched() else 0


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


def launched() -> bool:
    """Whether `torchrun` started this process, or another launcher that sets the same variables for several."""
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    return "RANK" in os.environ and (several or distributed.is_torchelastic_launched())
