"""What a configuration is built into: devices, with CUDA's presence made up and its rules torch's own."""

import ast
from pathlib import Path

import pytest
import torch
from conftest import train
from torch.cuda._utils import _get_device_index

import lets_runner
from lets_runner import build, cli
from lets_runner.build import pick_device
from lets_runner.config import UserError
from lets_runner.data import GLUE, ParallelText
from lets_runner.optim import GraphedStep
from lets_runner.optim.graphs.eager import EagerStep
from lets_runner.run.files import read_summary

ROOT = Path(lets_runner.__file__).parents[1]


@pytest.fixture
def chosen(monkeypatch):
    """A machine with two GPUs, as far as torch can tell without one; the numbers that `set_device` was given."""
    numbers = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: numbers.append(_get_device_index(device)))
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return numbers


@pytest.mark.parametrize(("name", "number"), [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_cuda_device_has_its_number(chosen, name, number):
    assert pick_device(name) == torch.device("cuda", number)
    assert chosen == [number]


@pytest.mark.parametrize(("name", "number"), [("auto", 1), ("cuda", 1), ("cuda:0", 0)])
@pytest.mark.parametrize("size", ["1", "2"])
def test_under_torchrun_each_process_has_its_own(monkeypatch, chosen, size, name, number):
    for key in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(key, "1")
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert pick_device(name) == torch.device("cuda", number)
    assert chosen == [number]


def test_a_rank_left_over_from_elsewhere_is_nobodys(monkeypatch, chosen):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device("cuda") == torch.device("cuda", 0)


def test_a_device_that_is_not_there_is_refused(chosen):
    with pytest.raises(UserError, match=r"device=cuda:2: torch sees 2 CUDA devices, numbered from 0"):
        pick_device("cuda:2")
    assert chosen == []


def test_cpu_touches_no_gpu(chosen):
    assert pick_device("cpu") == torch.device("cpu")
    assert chosen == []


# Functions of torch.cuda that ask for no device: they speak of the machine, or of the graph and the stream at hand.
OF_NO_DEVICE = {
    "is_available",
    "device_count",
    "is_bf16_supported",
    "set_sync_debug_mode",
    "get_sync_debug_mode",
    "CUDAGraph",
    "graph",
    "graph_pool_handle",
    "stream",
    "set_stream",
}


def calls_of_cuda(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("torch.cuda."):
            yield node, ast.unparse(node.func).removeprefix("torch.cuda.")


@pytest.mark.parametrize("folder", ["lets_runner", "benchmarks"])
def test_torch_cuda_is_told_which_device(folder):
    seen = 0
    for path in sorted((ROOT / folder).rglob("*.py")):
        for call, name in calls_of_cuda(path):
            seen += 1
            says = any("device" in ast.unparse(argument) for argument in (*call.args, *call.keywords))
            assert says or name in OF_NO_DEVICE, f"{path.name}:{call.lineno}: {ast.unparse(call)}"
    assert seen > 5 or folder == "benchmarks"


class OnGpu:
    """An optimizer as far as `_steps` asks: on a GPU, or with a base that is not fused."""

    graphable = True

    def __init__(self, fused=True):
        self.sam, self.base = self, self
        self.device, self.alone = torch.device("cuda:0"), True
        self.param_groups = [{"fused": fused}]


def steps(*overrides, varying=None, **settings):
    cfg, _ = cli.compose(*overrides)
    optimizer = type("Rule", (OnGpu,), {"graphable": True})(**settings)
    return build._steps(cfg, optimizer, varying)


@pytest.mark.parametrize(("graphs", "strict"), [("auto", False), ("true", True)])
def test_steps_on_a_gpu_are_graphs(graphs, strict):
    made = steps(f"graphs={graphs}")
    assert made.func is GraphedStep
    assert made.keywords == {"strict": strict}


def test_steps_are_eager_where_they_shall_be():
    made = steps("graphs=false")
    assert made.func is EagerStep
    assert made.keywords == {"reason": "graphs=false"}
    with pytest.raises(UserError, match="graphs=true: Rule is not fused: build it with fused=True; take graphs=auto"):
        steps("graphs=true", fused=False)
    assert steps("graphs=auto", fused=False).func is GraphedStep  # which says so itself


def test_batches_of_several_shapes_are_no_graphs():
    """As of texts, unless all are padded to the same length."""
    varying = GLUE(task="rte").varying
    assert GLUE(task="rte", pad="max_length").varying is None
    cfg, _ = cli.compose("graphs=auto")
    made = build._steps(cfg, OnGpu(), varying)
    assert made.func is EagerStep
    assert made.keywords["reason"] == "batches are as long as their longest text; data.pad=max_length makes them equal"
    cfg, _ = cli.compose("graphs=true")
    with pytest.raises(
        UserError, match=r"graphs=true: batches are as long as .*; data.pad=max_length makes them equal"
    ):
        build._steps(cfg, OnGpu(), varying)


def test_sentences_make_no_graphs():
    reason = "batches of sentences differ in length, and a graph is of one shape"
    made = steps("graphs=auto", varying=ParallelText.varying)
    assert made.func is EagerStep
    assert made.keywords == {"reason": reason}
    with pytest.raises(UserError, match=f"graphs=true: {reason}; take graphs=auto"):
        steps("graphs=true", varying=ParallelText.varying)


@pytest.mark.parametrize(
    ("graphs", "because"),
    [("auto", "CUDA graphs need a CUDA device, and the weights are on cpu"), ("false", "graphs=false")],
)
def test_a_summary_says_why_steps_were_eager(tmp_path, graphs, because):
    directory = train(tmp_path, "epochs=1", f"graphs={graphs}", "method=sam")
    assert read_summary(directory)["eager_because"] == because
