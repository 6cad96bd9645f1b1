"""The part of a graphed step that only a GPU runs, on a CUDA made up from PyTorch's notes on graphs and randomness."""

import gc
import random
import warnings
from contextlib import contextmanager, nullcontext

import pytest
import torch

from lets_runner.optim.graphs.cuda_graph import CudaRecorder, why_not

DEVICE = torch.device("cuda:0")


class State:
    def __init__(self, seed, offset):
        self.seed, self.offset = seed, offset
        self.captured = None  # random numbers drawn from it in the capture under way


class Generator:
    """Points to a state, which others may point to as well; what a capture draws counts from the begin of a replay."""

    capturing = False

    def __init__(self, state):
        self.state = state

    def draw(self, count):
        """Where in the stream of the state the numbers are from; in a capture a function that a replay asks."""
        state = self.state
        if not Generator.capturing:
            assert state.captured is None, "outside of a capture, from a state that believes in one"
            state.offset += count
            return state.seed, state.offset - count
        assert state.captured is not None, "from a state that is not registered with the graph"
        at = state.captured
        state.captured += count
        return lambda: (state.seed, state.begin + at)

    def clone_state(self):
        assert not Generator.capturing
        return Generator(State(self.state.seed, self.state.offset))

    def graphsafe_get_state(self):
        return Generator(self.state)

    def graphsafe_set_state(self, other):
        self.state = other.state

    def get_state(self):
        assert not Generator.capturing
        return self.state.seed, self.state.offset

    def set_state(self, value):
        assert not Generator.capturing
        self.state.seed, self.state.offset = value

    def get_offset(self):
        return self.get_state()[1]

    def set_offset(self, offset):
        self.set_state((self.state.seed, offset))


class Graph:
    def __init__(self):
        self.states, self.kernels, self.drawn = [], [], {}

    def register_generator_state(self, generator):
        assert not Generator.capturing
        self.states.append(generator.state)

    def replay(self):
        for state in self.states:
            state.begin = state.offset
            state.offset += self.drawn[state]
        return [kernel() for kernel in self.kernels]


class Cuda:
    """Streams by name, and one default generator."""

    def __init__(self, monkeypatch):
        self.stream, self.waits, self.mode = "default", [], 0
        self.generator = Generator(State(5, 40))
        for name, value in {
            "Stream": lambda device: Stream(self, "aside"),
            "current_stream": lambda device: Stream(self, self.stream),
            "set_stream": lambda stream: setattr(self, "stream", stream.name),
            "graph_pool_handle": lambda: "pool",
            "default_generators": [self.generator],
            "CUDAGraph": Graph,
            "graph": self.capture,
            "device": lambda device: nullcontext(),
            "stream": self.on,
            "get_sync_debug_mode": lambda: self.mode,
            "set_sync_debug_mode": lambda mode: setattr(self, "mode", mode),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)

    @contextmanager
    def on(self, stream):
        before, self.stream = self.stream, stream.name
        yield
        self.stream = before

    @contextmanager
    def capture(self, graph, *, pool, stream, capture_error_mode):
        assert (pool, stream.name, capture_error_mode) == ("pool", "aside", "thread_local")
        graph.register_generator_state(self.generator)  # as torch does by itself for the default one
        for state in graph.states:
            state.captured = 0
        Generator.capturing, self.stream = True, stream.name
        try:
            yield
        except BaseException:
            Generator.capturing = False  # and no more: torch leaves its stream and the states as they are
            raise
        Generator.capturing, self.stream = False, "default"
        graph.drawn = {state: state.captured for state in graph.states}
        for state in graph.states:
            state.captured = None


class Stream:
    def __init__(self, cuda, name):
        self.cuda, self.name = cuda, name

    def wait_stream(self, other):
        self.cuda.waits.append((self.name, other.name))


@pytest.fixture
def cuda(monkeypatch):
    yield Cuda(monkeypatch)
    Generator.capturing = False


def step(draw, mark, rewind):
    """Two shards with a pass of their own each, both again from where each began, and a validation pass."""
    passes = []
    marks = []
    for count in (8, 12):
        marks.append(mark())
        passes.append(draw(count))
    for number, count in enumerate((8, 12)):
        rewind(marks[number])
        passes.append(draw(count))
    return [*passes, draw(4)]


def test_replays_draw_what_eager_steps_draw(cuda):
    generator = cuda.generator
    eager = Generator(State(5, 40))
    expected = []
    for _ in range(3):
        expected.append(step(eager.draw, eager.get_state, eager.set_state))
        eager.draw(20)  # somebody else, between two steps

    recorder = CudaRecorder(DEVICE)
    graph = recorder.graph([0, 8])
    kernels = graph._graph.kernels
    graph.record(lambda: kernels.extend(step(generator.draw, graph.mark, lambda mark: graph.rewind())))
    seen = []
    replay = graph._graph.replay
    graph._graph.replay = lambda: seen.append(replay())
    for _ in range(3):
        graph.replay()
        generator.draw(20)
    assert seen == expected
    assert generator.get_state() == eager.get_state()


def test_a_graph_without_randomness_leaves_it_alone(cuda):
    graph = CudaRecorder(DEVICE).graph([])
    graph.record(lambda: None)
    graph.replay()
    assert cuda.generator.get_state() == (5, 40)


def test_a_capture_that_fails_leaves_stream_and_randomness_usable(cuda):
    def body():
        cuda.generator.draw(8)
        raise ValueError("as a closure may")

    assert gc.isenabled()
    graph = CudaRecorder(DEVICE).graph([0])
    with pytest.raises(ValueError, match="as a closure may"):
        graph.record(body)
    assert gc.isenabled()
    assert cuda.stream == "default"
    assert cuda.generator.draw(4) == (5, 40)


def test_what_runs_aside_keeps_its_place(cuda):
    recorder = CudaRecorder(DEVICE)
    with recorder.aside():
        assert cuda.stream == "aside"
    with pytest.raises(KeyError), recorder.aside():
        raise KeyError
    assert cuda.waits == 2 * [("aside", "default"), ("default", "aside")]


def test_a_watch_tells_what_would_break_a_capture(cuda, recwarn):
    recorder = CudaRecorder(DEVICE)
    with recorder.watch() as reasons:
        assert cuda.mode == "warn"
        warnings.warn("called a synchronizing CUDA operation (Triggered internally at ...)", stacklevel=1)
        warnings.warn("another matter", stacklevel=1)
    assert cuda.mode == 0
    assert [reason.rsplit(":", 1)[0] for reason in reasons] == [f"a step waits for the device, at {__file__}"]
    assert [str(warning.message) for warning in recwarn] == ["another matter"]
    for draw in (lambda: torch.rand(1), random.random):
        with recorder.watch() as reasons:
            draw()
        assert reasons == ["a step draws random numbers on the host"]
    with recorder.watch() as reasons:
        pass
    assert reasons == []


def test_which_devices_have_graphs():
    assert why_not(DEVICE) is None
    assert why_not(torch.device("cpu")) == "CUDA graphs need a CUDA device, and the weights are on cpu"
