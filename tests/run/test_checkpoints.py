"""Checkpoints say what they are: damage, and what belongs to another run, is named; what was before is gone on from."""

import shutil

import pytest
import torch
from conftest import grid, lets_train, train
from killing import SHORT, in_child, killed_after_step, state_of

from lets_runner import __version__
from lets_runner.run.checkpoint import FORMAT, pack, read_checkpoint


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"), *SHORT)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was killed after its third checkpoint: of step 7, and of step 6 before."""
    output = tmp_path_factory.mktemp("stopped")
    in_child(killed_after_step, output, 7, SHORT)
    return output


@pytest.fixture
def output(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "runs")


@pytest.fixture
def last(output):
    [path] = output.rglob("last.pt")
    return path


def saved(path, state):
    """Written as this program would have."""
    path.write_bytes(pack(state))


def test_plain_torch_reads_it(last):
    state = torch.load(last, weights_only=True)
    assert state["step"] == 7
    assert (state["format"], state["version"], state["seed"]) == (FORMAT, __version__, 0)
    [config] = last.parents[1].glob("config.yaml")
    assert config.read_text().startswith(f"# {state['configuration']}\n")
    assert torch.load(last, weights_only=True, mmap=True)["step"] == 7


def test_one_flipped_bit_anywhere_is_found(tmp_path):
    path = tmp_path / "last.pt"
    saved(path, {"format": FORMAT, "step": 3, "model": {"weight": torch.arange(300.0)}})
    content = path.read_bytes()
    assert read_checkpoint(path)["step"] == 3
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"last\.pt cannot be read"):
            read_checkpoint(path)


@pytest.mark.parametrize("length", [0, 1, 70, 1000, -1])
def test_a_part_of_one_is_none(tmp_path, length):
    path = tmp_path / "last.pt"
    saved(path, {"format": FORMAT, "step": 3, "model": {"weight": torch.arange(300.0)}})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"last\.pt cannot be read"):
        read_checkpoint(path)


def test_a_new_one_without_its_checksum_is_damaged(tmp_path):
    path = tmp_path / "last.pt"
    torch.save({"format": FORMAT, "step": 3}, path)
    with pytest.raises(ValueError, match="checksum"):
        read_checkpoint(path)


def test_those_of_before_are_gone_on_from(output, last, whole):
    for path in (last, last.with_name("previous.pt"), last.with_name("best.pt")):
        state = torch.load(path, weights_only=True)
        torch.save({k: v for k, v in state.items() if k not in ("format", "version", "configuration", "seed")}, path)
    assert state_of(train(output, *SHORT)) == state_of(whole)


def of_another_model(state):
    state["model"] = {name: torch.cat([tensor, tensor]) for name, tensor in state["model"].items()}


def of_other_weights(state):
    state["model"] = {f"more.{name}": tensor for name, tensor in state["model"].items()}


def not_finite(state):
    next(iter(state["model"].values())).view(-1)[3] = float("nan")


ODD = {
    "another configuration's": (lambda state: state.update(configuration="0" * 64), "another configuration"),
    "another seed's": (lambda state: state.update(seed=1), "seed=1"),
    "a newer program's": (lambda state: state.update(format=99, version="7.0"), "lets_runner 7.0"),
    "another model's": (of_another_model, "another model"),
    "other weights'": (of_other_weights, "another model"),
    "of a step past the end": (lambda state: state.update(step=15), "step 15, and training ends at step 14"),
    "of nan": (not_finite, "not finite"),
    "a part's": (lambda state: state.pop("optimizer"), "no optimizer"),
    "an odd step's": (lambda state: state.update(step=-2), "step -2"),
}


@pytest.mark.parametrize("what", grid(ODD, few=[*ODD][1::3]))
def test_one_that_does_not_belong_is_named_and_the_one_before_taken(output, last, whole, what):
    spoil, words = ODD[what]
    state = torch.load(last, weights_only=True)
    spoil(state)
    saved(last, state)
    with pytest.warns(UserWarning, match=rf"last\.pt.*{words}.*previous\.pt"):
        directory = train(output, *SHORT)
    assert state_of(directory) == state_of(whole)


def test_the_checkpoint_of_another_run_is_not_taken(tmp_path, output, last, whole):
    other = train(tmp_path / "other", *SHORT, "seed=3")
    shutil.copy(other / "checkpoints" / "last.pt", last)
    with pytest.warns(UserWarning, match=r"last\.pt.*seed=3"):
        assert state_of(train(output, *SHORT)) == state_of(whole)


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("damage", ["flipped", "empty", "nan", "a structure that torch does not know"])
def test_without_a_sound_one_a_line_says_what_to_do(output, last, whole, monkeypatch, capfd, damage):
    for path in (last, last.with_name("previous.pt")):
        state = torch.load(path, weights_only=True)
        if damage == "nan":
            not_finite(state)
        if damage.startswith("a structure"):
            state["optimizer"] = {"base": 3}
        saved(path, state)
        if damage == "flipped":
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 16
            path.write_bytes(content)
        if damage == "empty":
            path.write_bytes(b"")
    files = {path: path.read_bytes() for path in output.rglob("*") if path.is_file() and path.name != "summary.json"}
    words = ["epochs=2", "progress=false", f"output={output}", *SHORT]
    assert lets_train(monkeypatch, *words) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    lines = err.splitlines()
    assert all(line.startswith("lets-train: ") for line in lines)
    assert f"remove {last.parent}" in lines[-1]
    if not damage.startswith("a structure"):
        assert "last.pt" in lines[0] and "previous.pt" in lines[-1] and len(lines) == 2
        assert {path: path.read_bytes() for path in files} == files
    shutil.rmtree(last.parent)  # as it says
    assert lets_train(monkeypatch, *words) == 0
    assert state_of(last.parents[1]) == state_of(whole)
