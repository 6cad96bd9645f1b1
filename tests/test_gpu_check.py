"""`scripts/gpu_check` as far as a CPU goes: what it does without a GPU, and its parts."""

import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch
from optim.tape import TapeRecorder

from benchmarks import gpu
from benchmarks.graphed import ShortError, same_as_eager
from lets_runner import GraphedStep
from lets_runner.data import CIFAR10
from lets_runner.optim.engine.finite import DeferredGuard
from lets_runner.optim.graphs.eager import EagerStep

CPU = torch.device("cpu")
DIGITS = ["model=mlp", "epochs=5"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without a GPU")
def test_without_a_gpu_it_says_so():
    script = Path(__file__).parents[1] / "scripts" / "gpu_check"
    done = subprocess.run([script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "gpu_check: device=cuda: torch sees no CUDA device here" in done.stderr


def test_a_check_that_fails_stops_no_other(capsys):
    def fails():
        raise ShortError("3 of 4")

    def breaks():
        return 1 / 0

    checks = [gpu.Check("one", fails), gpu.Check("two", breaks), gpu.Check("three", lambda: "7 ms")]
    assert gpu.take(checks) == ["one: 3 of 4", "two: division by zero"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["FAIL", "one"], ["FAIL", "two"], ["ok", "three"]]
    assert lines[2].endswith("7 ms")
    assert gpu.take(checks[2:], limit=-1) == ["three: not begun: -1 s were over"]


def test_every_variant_and_both_rules_are_checked(tmp_path):
    names = [check.name for check in gpu.all_checks(tmp_path, torch.device("cuda:0"))]
    assert len(names) == len(set(names))
    for sam in gpu.variants():
        assert f"graphed = eager: {sam}, fixed" in names
        assert (f"graphed = eager: {sam}, lets" in names) == (sam not in ("none", "le_sam", "momentum_sam", "sampa"))


def test_its_images_are_a_data_set(tmp_path):
    gpu.write_images(tmp_path, 100)
    splits = CIFAR10(root=str(tmp_path), download=False).splits()
    assert len(splits.train) + len(splits.val) == 100


def test_runs(tmp_path):
    figure = gpu.trained(tmp_path, "cpu", DIGITS, at_least=0.8)
    assert "CUDA graphs need a CUDA device" in figure
    with pytest.raises(ShortError, match="test accuracy"):
        gpu.trained(tmp_path, "cpu", DIGITS, at_least=0.8, graphs=True)
    with pytest.raises(ShortError, match=r"exit 2: .*there is no such model"):
        gpu.trained(tmp_path, "cpu", ["model=none"], at_least=0.8)


@pytest.mark.full
def test_a_model_is_taken_from_its_run(tmp_path):
    figure = gpu.taken(tmp_path, "cpu", DIGITS)
    assert figure.startswith("test accuracy 0.") and figure.endswith("file: scores within 0 on 6 examples")


@pytest.mark.full
def test_the_recipe_composes_with_its_network(tmp_path):
    [check] = [c for c in gpu.all_checks(tmp_path, CPU) if c.name.endswith("mixed, averaged, warmed up")]
    gpu.write_images(tmp_path, 100)
    *_, settings = check.run.args
    smaller = ["model.stem=imagenet", "epochs=1", "batch_size=10", "precision=fp32"]
    assert gpu.trained(tmp_path, "cpu", [*settings, *smaller], at_least=0).startswith("test accuracy")


@pytest.mark.full
def test_a_run_that_is_killed(tmp_path):
    assert gpu.resumed(tmp_path, "cpu", DIGITS) == "85 steps, 0 rows and 0 of 6 tensors differ"


@pytest.mark.full
def test_one_process_of_torchrun(tmp_path):
    assert gpu.launched(tmp_path, "cpu", "ddp").startswith("test accuracy 0.")


def deferred(optimizer):
    sam = optimizer.sam
    sam._guard = DeferredGuard(CPU, skip=False, scale=sam._scale)


class Once(EagerStep):
    """Forgets its fifth step: what is not the same must be found."""

    calls = 0

    def __call__(self, train_batch, val_batch=None):
        self.calls += 1
        loss = super().__call__(train_batch, val_batch)
        if self.calls == 5:
            self.optimizer.param_groups[0]["params"][0].data *= 1.01
        return loss


@pytest.mark.parametrize(("sam", "radius"), [("sam", "lets"), ("esam", "fixed"), ("ae_sam", "lets")])
def test_graphs_are_held_against_eager_steps(sam, radius):
    graphed = partial(GraphedStep, recorder=TapeRecorder(), warmup=2)
    figure = same_as_eager(sam, radius, CPU, graphed=graphed, prepare=deferred)
    assert figure == f"to the bit, {0 if sam == 'ae_sam' else 1} graphs"


def test_a_difference_is_found():
    with pytest.raises(ShortError, match="apart"):
        same_as_eager("sam", "fixed", CPU, graphed=Once, prepare=deferred)
    with pytest.warns(UserWarning, match="need a CUDA device"), pytest.raises(ShortError, match="need a CUDA device"):
        same_as_eager("sam", "fixed", CPU, prepare=deferred)


def test_times_are_read_from_the_table():
    printed = """resnet18, bf16, graphs, batches of 128,
50 rounds on a GPU

| step | x SGD | lowest to highest | x SAM | ms | memory beyond SGD's, P |
| --- | --- | --- | --- | --- | --- |
| SGD | 1.000 | 1.00 to 1.00 | 0.48 | 3.1 | +0.00 |
| LETS, every=10 | 2.190 | 2.10 to 2.30 | 1.06 | 6.8 | +4.00 |
"""
    assert gpu.table(printed) == {"SGD": (1.0, 3.1), "LETS, every=10": (2.19, 6.8)}
