"""Two processes over gloo compute what one does; `ranks.py` is what they run."""

import fcntl
import subprocess
import sys

import pytest
import torch
from optim import ranks
from optim.ranks import CASES, LOCAL, SHARDED, STEPS, Case

SAVED = [(variant, base) for variant in ("sam", "looksam") for base in ranks.BASES]


@pytest.fixture(scope="session")
def results(tmp_path_factory, worker_id):
    """What both ranks found; computed once, however many workers share the tests."""
    base = tmp_path_factory.getbasetemp()
    out = (base if worker_id == "master" else base.parent) / "ranks"
    out.mkdir(exist_ok=True)
    with open(out / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (out / "1.pt").exists():
            launch(out)
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(2)]


def launch(out):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        ranks.__file__,
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def found(results):
    """(name) -> what the ranks found; all of them alike, to the bit."""

    def of(name):
        first, second = (result[name] for result in results)
        assert_same(first, second, rtol=0, atol=0)
        return first

    return of


def assert_same(first, second, *, rtol=1e-9, atol=1e-12):
    for key in ("numbers", "weights", "buffers"):
        ours, theirs = ([x[key]] if key == "numbers" else x[key] for x in (first, second))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=rtol, atol=atol, equal_nan=True)


def alone(name, **settings):
    """One process. ESAM picks its examples, and m-SAM its shards, a closure at a time: two stand for two processes."""
    settings.setdefault("parts", 2 if name.startswith(("esam", "m_sam")) else 1)
    return Case(*CASES[name], **settings).run()


@pytest.mark.parametrize("name", CASES)
def test_replicas_equal_one_process(found, name):
    assert_same(found(f"ddp {name}"), alone(name))


@pytest.mark.parametrize("name", SHARDED)
def test_shards_of_weights_equal_one_process(found, name):
    assert_same(found(f"fsdp {name}"), alone(name))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_microbatches_in_two_processes_equal_one_process(found, strategy):
    assert_same(found(f"{strategy} in parts"), alone("sam-lets-sgd"))


@pytest.mark.parametrize("name", [n for n in CASES if not n.startswith(("esam", "m_sam"))])
def test_microbatches_equal_the_whole_batch(name):
    assert_same(alone(name, parts=4), alone(name))


@pytest.mark.parametrize("rule", ["lets-sgd", "lets-adamw", "lets_paper-sgd", "exact-sgd", "gap_matching-sgd"])
def test_local_perturbations_are_m_sam(found, rule):
    """Each of two processes along its own gradient: m-SAM with m half of the batch."""
    shards = Case("m_sam", *rule.split("-"), parts=2).run()
    assert_same(found(f"local sam-{rule}"), shards)
    assert not torch.allclose(shards["weights"][0], alone(f"sam-{rule}")["weights"][0], rtol=1e-6)


@pytest.mark.parametrize("name", LOCAL)
def test_local_perturbations_leave_the_ranks_alike(found, name):
    local, shared = found(f"local {name}"), alone(name)
    assert torch.isfinite(local["numbers"][:, 1]).all()
    perturbed = shared["numbers"][:, 5].isfinite().any()
    assert perturbed != torch.equal(local["weights"][0], found(f"ddp {name}")["weights"][0])


def test_statistics_are_the_mean_of_the_ranks_and_counted_once(found):
    """After a step, of what each rank saw in its first pass; and the counter of a run counts its steps."""
    mean, variance, count = found("ddp with batch norm 1")["buffers"]
    case = Case("sam", "lets", "sgd", norm=True)
    halves = [case.bare[0](case.x[0, 0, half]).detach() for half in (slice(8), slice(8, 16))]
    momentum = case.bare[1].momentum
    torch.testing.assert_close(mean, momentum * torch.stack([x.mean(0) for x in halves]).mean(0))
    torch.testing.assert_close(variance, 1 - momentum + momentum * torch.stack([x.var(0) for x in halves]).mean(0))
    assert count == 1
    assert found(f"ddp with batch norm {STEPS}")["buffers"][2] == STEPS


def test_a_scale_of_two_to_some_power_changes_nothing(found):
    assert_same(found("ddp scaled"), found("ddp sam-lets-sgd"), rtol=0, atol=0)


@pytest.mark.parametrize(("variant", "base"), SAVED)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_state_of_two_processes_goes_on_in_one(results, strategy, variant, base):
    state = results[0][f"{strategy} saved {variant} {base}"]
    case = Case(variant, "lets", base)
    with torch.no_grad():
        for param, value in zip(case.bare.parameters(), state["model"], strict=True):
            param.copy_(value)
    case.optimizer.load_state_dict(state["state"])
    after, through = case.run(start=STEPS // 2), Case(variant, "lets", base).run()
    through["numbers"] = through["numbers"][STEPS // 2 :]
    assert_same(after, through)


@pytest.mark.parametrize(("variant", "base"), SAVED)
def test_a_state_of_replicas_goes_on_in_shards(found, variant, base):
    through = Case(variant, "lets", base).run()
    through["numbers"] = through["numbers"][STEPS // 2 :]
    assert_same(found(f"fsdp resumed {variant} {base}"), through)


def test_what_cannot_be_right_is_refused(results):
    refused = results[0]["refused"]
    assert "gradient_as_bucket_view=True" in refused["view"]
    assert "perturbation_sync=local: what VaSSO keeps" in refused["vasso"]
    assert "curvature=exact: FSDP2 does not" in refused["exact"]
    assert "perturbation_sync=local: every process needs the whole weights" in refused["fsdp"]
