"""A CUDA graph for the CPU: notes every operator with its very tensors and numbers, and does all of it again.

What a capture would build in is built in here too, and asking a tensor for its value fails as it would there. What this
shows of `GraphedStep` holds on a GPU as well; only the GPU's own part, `cuda_graph`, is another.
"""

from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

VALUES = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.nonzero.default,
}


class TapeRecorder:
    """Stands in for `CudaRecorder`. Its distances in the stream of random numbers are numbers of marks."""

    def __init__(self):
        self.tapes = []
        self._marks = 0

    @contextmanager
    def aside(self):
        yield

    @contextmanager
    def watch(self):
        yield []

    def offset(self):
        self._marks += 1
        return self._marks

    def graph(self, rewinds):
        self.tapes.append(Tape(rewinds))
        return self.tapes[-1]


class Tape(TorchDispatchMode):
    executes = True

    def __init__(self, rewinds):
        super().__init__()
        self.replays = 0
        self._entries = []
        self._rewinds = iter(rewinds)
        self._states, self._marked = {}, 0

    def record(self, body):
        with self:
            body()

    def mark(self):
        self._marked += 1
        number = self._marked
        self._do(lambda: self._states.__setitem__(number, torch.get_rng_state()))

    def rewind(self):
        number = next(self._rewinds)
        self._do(lambda: torch.set_rng_state(self._states[number]))

    def _do(self, action):
        with torch.utils._python_dispatch._disable_current_modes():
            action()
        self._entries.append(action)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in VALUES:
            raise RuntimeError("a value was asked for, which ends the capture of a CUDA graph")
        result = func(*args, **kwargs)
        self._entries.append((func, args, kwargs, result))
        return result

    @torch.no_grad()
    def replay(self):
        self.replays += 1
        for entry in self._entries:
            if callable(entry):
                entry()
                continue
            func, args, kwargs, result = entry
            if "empty" in func.__name__:
                continue  # the memory of the recording is used again
            again = func(*args, **kwargs)
            given = {storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and storage(old) not in given:
                    old.copy_(new)


def storage(tensor):
    return tensor.untyped_storage().data_ptr()
