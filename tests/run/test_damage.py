"""Damaged csv and summary files are named in a line, and a trajectory never gets shorter in silence."""

import json
import shutil

import pytest
from conftest import grid, lets_train, train
from killing import SHORT, in_child, killed_after_step, state_of

WORDS = ("epochs=2", "progress=false", *SHORT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"), *SHORT)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Killed after a checkpoint of step 12, with one of step 9 before it; 7 steps an epoch."""
    output = tmp_path_factory.mktemp("stopped")
    in_child(killed_after_step, output, 12, SHORT)
    return output


@pytest.fixture
def directory(stopped, tmp_path):
    [summary] = shutil.copytree(stopped, tmp_path / "runs").rglob("summary.json")
    return summary.parent


def lines_of(path):
    return path.read_text().splitlines(keepends=True)


def shortened(path, rows):
    path.write_text("".join(lines_of(path)[: 1 + rows]))


def garbled(path):
    lines = lines_of(path)
    path.write_text("".join([*lines[:3], "\x80\x00 garbage\n", *lines[4:]]))


def torn(path):
    lines = lines_of(path)
    path.write_text("".join([*lines[:3], lines[3][: len(lines[3]) // 2] + "\n", *lines[4:]]))


DAMAGE = {
    ("steps.csv", "missing"): lambda path: path.unlink(),
    ("steps.csv", "empty"): lambda path: path.write_bytes(b""),
    ("steps.csv", "zeros"): lambda path: path.write_bytes(bytes(path.stat().st_size)),
    ("steps.csv", "garbage"): lambda path: path.write_bytes(b"\xff\x00garbage" * 90),
    ("steps.csv", "a garbled row"): garbled,
    ("steps.csv", "a torn row"): torn,
    ("steps.csv", "a row left out"): lambda path: path.write_text("".join(lines_of(path)[:3] + lines_of(path)[4:])),
    ("steps.csv", "the header alone"): lambda path: shortened(path, 0),
    ("steps.csv", "fewer rows"): lambda path: shortened(path, 5),
    ("epochs.csv", "missing"): lambda path: path.unlink(),
    ("epochs.csv", "zeros"): lambda path: path.write_bytes(bytes(path.stat().st_size)),
    ("epochs.csv", "the header alone"): lambda path: shortened(path, 0),
}


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize(("name", "damage"), grid(DAMAGE, few=[*DAMAGE][::3]))
def test_rows_that_a_checkpoint_covers_are_missed(directory, whole, monkeypatch, capfd, name, damage):
    sound = (directory / name).read_bytes()
    DAMAGE[name, damage](directory / name)
    files = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    words = [*WORDS, f"output={directory.parents[2]}"]
    assert lets_train(monkeypatch, *words) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert all(line.startswith("lets-train: ") and name in line for line in err.splitlines())
    assert 1 <= err.count("\n") <= 2
    assert "start over" in err.splitlines()[-1]
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == files
    (directory / name).write_bytes(sound)  # put back from a copy
    assert lets_train(monkeypatch, *words) == 0
    assert state_of(directory) == state_of(whole)


def test_rows_up_to_the_checkpoint_before_are_enough_for_that(directory, whole):
    shortened(directory / "steps.csv", 10)
    with pytest.warns(UserWarning, match=r"row 11 of .*steps\.csv.*previous\.pt"):
        train(directory.parents[2], *SHORT)
    assert state_of(directory) == state_of(whole)


@pytest.mark.parametrize("rest", ["", "13,0.5,0.", "\x00" * 500, "13," + "garbage " * 7 + "\n"])
def test_what_lies_past_the_checkpoint_goes_in_silence(directory, whole, rest):
    shortened(directory / "steps.csv", 12)
    with open(directory / "steps.csv", "a") as file:
        file.write(rest)
    train(directory.parents[2], *SHORT)  # warnings are errors here
    assert state_of(directory) == state_of(whole)


def test_epochs_without_any_checkpoint_do_not_go_in_silence(tmp_path, whole):
    directory = train(tmp_path, *SHORT)
    shutil.rmtree(directory / "checkpoints")
    (directory / "summary.json").unlink()
    with pytest.warns(UserWarning, match=r"no checkpoint.*2 epochs start over"):
        train(tmp_path, *SHORT)
    assert state_of(directory) == state_of(whole)


SUMMARIES = {
    "empty": b"",
    "zeros": bytes(900),
    "half": b'{"status": "finished", "test_acc',
    "another thing": b"[3]",
    "a number": b"7",
    "not text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize(
    ("content", "at"),
    grid(
        [(c, at) for c in SUMMARIES for at in ("stopped", "finished")], few=[("zeros", "stopped"), ("deep", "finished")]
    ),
)
def test_a_summary_that_cannot_be_read_is_named_and_rewritten(request, tmp_path, whole, at, content):
    if at == "finished":
        directory = tmp_path / whole.relative_to(whole.parents[2])
        shutil.copytree(whole, directory)
    else:
        directory = request.getfixturevalue("directory")
    (directory / "summary.json").write_bytes(SUMMARIES[content])
    with pytest.warns(UserWarning, match=r"summary\.json cannot be read.*rewritten"):
        train(directory.parents[2], *SHORT)
    assert state_of(directory) == state_of(whole)


@pytest.mark.parametrize(
    "change",
    [{"columns": [{"name": "x"}]}, {"columns": 3}, {"test_accuracy": "much"}, {"rho": "x"}, {"rho_start": "x"}],
)
def test_a_finished_summary_with_nonsense_in_it_is_one_line(tmp_path, whole, monkeypatch, capfd, change):
    directory = tmp_path / whole.relative_to(whole.parents[2])
    shutil.copytree(whole, directory)
    summary = json.loads((directory / "summary.json").read_text())
    (directory / "summary.json").write_text(json.dumps({**summary, **change}))
    assert lets_train(monkeypatch, *WORDS, f"output={tmp_path}") == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert f"remove {directory / 'summary.json'}" in err
    (directory / "summary.json").unlink()  # as it says
    assert lets_train(monkeypatch, *WORDS, f"output={tmp_path}") == 0
    assert state_of(directory) == state_of(whole)


@pytest.mark.parametrize("content", [b"\x00" * 300, b"\xff\xfe", b""])
def test_a_damaged_configuration_is_one_line(directory, monkeypatch, capfd, content):
    (directory / "config.yaml").write_bytes(content)
    assert lets_train(monkeypatch, *WORDS, f"output={directory.parents[2]}") == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "config.yaml" in err
