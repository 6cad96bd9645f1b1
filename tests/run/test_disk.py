"""A directory that cannot be written is one line; what was saved is intact, and the same command goes on."""

import errno
import json
import os
import resource
import shutil
import signal

import pytest
from conftest import grid, lets_train, train
from killing import FORK, SHORT, state_of

from lets_runner.run.directory import Run

WORDS = ("epochs=2", "progress=false", *SHORT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"), *SHORT)


def failed(err, *words):
    """That one line says what is wrong and how to mend it."""
    assert "Traceback" not in err
    assert err.count("\n") == 1, err
    assert err.startswith("lets-train: ")
    for word in words:
        assert word in err
    return True


def leftovers(output):
    return [path for path in output.rglob("*") if path.name.endswith(".tmp") or path.name == "next.pt"]


def test_no_file_may_grow_as_large_as_a_checkpoint(tmp_path, whole, monkeypatch, capfd):
    """The kernel itself refuses to write on, as on a full disk."""

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        os._exit(lets_train(monkeypatch, *WORDS, f"output={tmp_path}"))

    child = FORK.Process(target=limited)
    child.start()
    child.join(120)
    assert child.exitcode == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert failed(err, "File too large", "make room", "the same command goes on")
    [summary] = tmp_path.rglob("summary.json")
    assert json.loads(summary.read_text())["status"] == "failed"
    assert "File too large" in json.loads(summary.read_text())["error"]
    assert not leftovers(tmp_path)
    assert state_of(train(tmp_path, *SHORT)) == state_of(whole)


CALLS = {
    "replace": (PermissionError, errno.EACCES, "let it be written"),
    "fsync": (OSError, errno.ENOSPC, "make room"),
}


@pytest.mark.filterwarnings("always")  # of a picture
@pytest.mark.parametrize(
    ("name", "lasts"),
    grid([(name, lasts) for name in CALLS for lasts in (True, False)], few=[("replace", True), ("fsync", False)]),
)
def test_a_write_that_fails_at_any_moment(tmp_path, whole, monkeypatch, capfd, name, lasts):
    real, (kind, number, remedy) = getattr(os, name), CALLS[name]
    failures = 0
    for moment in (1, 2, 4, 9, 10, 13, 24, 40):
        output, calls = tmp_path / str(moment), 0

        def fails(*arguments, moment=moment, **settings):
            nonlocal calls
            calls += 1
            if calls == moment or (lasts and calls > moment):
                raise kind(number, os.strerror(number))
            return real(*arguments, **settings)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, fails)
            code = lets_train(patch, *WORDS, f"output={output}")
        err = capfd.readouterr().err
        assert not leftovers(output)
        if code:
            failures += 1
            assert code == 2
            assert failed(err, os.strerror(number), remedy)
            summaries = [json.loads(path.read_text()) for path in output.rglob("summary.json")]
            assert all(summary["status"] in (("running",) if lasts else ("failed",)) for summary in summaries)
        assert state_of(train(output, *SHORT)) == state_of(whole), moment
    assert failures >= 5


def test_a_directory_that_may_not_be_made_is_one_line(tmp_path, monkeypatch, capfd):
    (tmp_path / "runs").write_text("a file")
    assert lets_train(monkeypatch, *WORDS, f"output={tmp_path / 'runs'}") == 2
    assert failed(capfd.readouterr().err, "Not a directory")
    for name in ("mkdir", "makedirs"):
        monkeypatch.setattr(os, name, lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EROFS, "Read-only")))
    assert lets_train(monkeypatch, *WORDS, f"output={tmp_path / 'other'}") == 2
    assert failed(capfd.readouterr().err, "Read-only", "let it be written")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_sweep_into_a_directory_that_may_not_be_written_says_so(tmp_path, monkeypatch, capfd):
    (tmp_path / "runs").write_text("a file")
    assert lets_train(monkeypatch, "-m", *WORDS, "seed=0,1", f"output={tmp_path / 'runs'}") != 0
    err = capfd.readouterr().err
    assert "Traceback" not in err
    assert "Not a directory" in err or "File exists" in err


def at_step(monkeypatch, step, action):
    """Do something to the run's surroundings after the checkpoint of `step`."""
    real = Run.save

    def save(self, state, **options):
        real(self, state, **options)
        if state["step"] == step:
            action(self.directory)

    monkeypatch.setattr(Run, "save", save)


def test_a_directory_that_is_removed_while_the_run_goes_on(tmp_path, whole, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        at_step(patch, 6, shutil.rmtree)
        assert lets_train(patch, *WORDS, f"output={tmp_path}") == 2
    assert failed(capfd.readouterr().err, "No such file or directory", "moved or removed")
    assert not list(tmp_path.rglob("*.csv"))
    assert state_of(train(tmp_path, *SHORT)) == state_of(whole)


def test_a_working_directory_that_is_removed_is_not_needed(tmp_path, whole, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with monkeypatch.context() as patch:
        at_step(patch, 6, lambda _: here.rmdir())
        directory = train(tmp_path / "runs", *SHORT)
    os.chdir(tmp_path)
    assert state_of(directory) == state_of(whole)


def test_a_working_directory_that_is_removed_with_the_run_in_it(tmp_path, monkeypatch, capfd):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with monkeypatch.context() as patch:
        at_step(patch, 6, lambda _: shutil.rmtree(here))
        assert lets_train(patch, *WORDS) == 2
    os.chdir(tmp_path)
    assert failed(capfd.readouterr().err, "No such file or directory")
