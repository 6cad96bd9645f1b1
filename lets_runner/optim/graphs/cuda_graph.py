"""A recorder for `graphed`: what a step does on a CUDA device, captured once and launched again as one graph.

Only a GPU runs this module: it is kept small, and `tests/optim/tape.py` stands in for it on a CPU. The rules it keeps
to are those of PyTorch's notes on CUDA graphs: everything before a capture runs on the stream that is captured (what
autograd keeps remembers its stream), graphs that never run at the same time share a pool, and a random state that a
graph draws from is registered with it.
"""

import gc
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

SYNCHRONIZES = "called a synchronizing"  # how torch's warning of it begins


class CudaRecorder:
    """Makes graphs on one CUDA device, with one stream for all that is not a replay and one pool for all graphs."""

    def __init__(self, device: torch.device):
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()
        self.generator = torch.cuda.default_generators[device.index]

    @contextmanager
    def aside(self) -> Iterator[None]:
        """On the stream of captures; in order with what the present stream did before and does after."""
        present = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(present)
        try:
            with torch.cuda.stream(self.stream):
                yield
        finally:
            present.wait_stream(self.stream)

    @contextmanager
    def watch(self) -> Iterator[list[str]]:
        """Notes why what runs inside could not be captured: a capture that fails leaves the device in disorder."""
        reasons: list[str] = []
        on_host = torch.get_rng_state(), random.getstate()
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield reasons
            finally:
                torch.cuda.set_sync_debug_mode(before)
        for warning in caught:
            if SYNCHRONIZES in str(warning.message):
                reasons.append(f"a step waits for the device, at {warning.filename}:{warning.lineno}")
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        if not torch.equal(on_host[0], torch.get_rng_state()) or on_host[1] != random.getstate():
            reasons.append("a step draws random numbers on the host")

    def offset(self) -> int:
        """How far the device's random numbers have been drawn."""
        return self.generator.get_offset()

    def graph(self, rewinds: Sequence[int]) -> "CudaGraph":
        """An empty graph; `rewinds` as for `CudaGraph`."""
        return CudaGraph(self, rewinds)


class CudaGraph:
    """One graph.

    Args:
        recorder: who has the stream, the pool and the generator.
        rewinds: for every time that the step goes back to an earlier random state, how far that one lies past the state
            in which the step begins.
    """

    executes = False  # a capture does not: the first step of a graph is its first replay

    def __init__(self, recorder: CudaRecorder, rewinds: Sequence[int]):
        self._recorder, self._generator = recorder, recorder.generator
        self._graph = torch.cuda.CUDAGraph()
        self._rewinds = rewinds
        self._states = [self._generator.clone_state() for _ in rewinds]
        for state in self._states:
            self._graph.register_generator_state(state)
        self._rewound = 0

    def record(self, body: Callable[[], None]) -> None:
        """Capture what `body` does; whatever it raises comes through, with stream and generator as they were."""
        recorder = self._recorder
        present = torch.cuda.current_stream(recorder.device)
        state, spare = self._generator.graphsafe_get_state(), self._generator.clone_state()
        collects = gc.isenabled()
        gc.collect()
        gc.disable()  # a collection could free what must not be freed while a stream is captured
        try:
            with (
                torch.cuda.device(recorder.device),
                torch.cuda.graph(
                    self._graph, pool=recorder.pool, stream=recorder.stream, capture_error_mode="thread_local"
                ),
            ):
                body()
        except BaseException:
            torch.cuda.set_stream(present)
            state = spare  # the other may believe that it is still being captured
            raise
        finally:
            self._generator.graphsafe_set_state(state)
            if collects:
                gc.enable()

    def mark(self) -> None:
        """While recording: a random state that the step may come back to. `rewinds` tells already where it lies."""

    def rewind(self) -> None:
        """While recording: from here on random numbers are drawn from the next of `rewinds`."""
        self._generator.graphsafe_set_state(self._states[self._rewound])
        self._rewound += 1

    def replay(self) -> None:
        """Do it again; random numbers go on from the generator's present state, and leave it as the step would."""
        begin = self._generator.get_state()
        for state, distance in zip(self._states, self._rewinds, strict=True):
            state.set_state(begin)
            state.set_offset(state.get_offset() + distance)
        self._graph.replay()
        if self._states:
            self._generator.set_state(self._states[-1].get_state())


def why_not(device: torch.device) -> str | None:
    """Why nothing can be captured on this device; None if it can."""
    return None if device.type == "cuda" else f"CUDA graphs need a CUDA device, and the weights are on {device}"
