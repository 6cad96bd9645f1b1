"""`lets-report` from the command line."""

import csv
import json
import os
import shlex
import subprocess
import sys

import pytest
from conftest import train
from made import make_many, make_run

from lets_runner.report import command

COMMAND = [sys.executable, "-m", "lets_runner.report.command"]


def refusal(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        command.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_reports_real_runs_without_torch(tmp_path):
    for method in ("erm", "lets_sam"):
        train(tmp_path / "runs", f"method={method}")
    code = (
        "import sys; from lets_runner.report.command import main; main(sys.argv[1:]);"
        "print([name for name in ('torch', 'hydra', 'omegaconf', 'pandas') if name in sys.modules])"
    )
    arguments = [str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    said, loaded = done.stdout.splitlines()
    assert said.startswith("2 finished; table.md, ") and said.endswith(f"3 figures in {tmp_path / 'out'}")
    assert loaded == "[]"
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"table.md", "table.tex", "table.csv", "directories.csv", "index.html", "figures"}
    assert "| digits | convnet | 0 % | " in (tmp_path / "out" / "table.md").read_text()


def test_a_reader_that_has_gone_takes_nothing_away(tmp_path):
    make_run(tmp_path / "runs")
    words = [str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    line = f"{shlex.join([*COMMAND, *words])} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert done.stderr.startswith("lets-report: warning: standard output cannot be written (")
    assert done.stderr.count("\n") == 1 and "1 finished; table.md" in done.stderr
    assert (tmp_path / "out" / "index.html").exists()


def test_without_a_finished_run_nothing_is_written(tmp_path, capsys):
    make_run(tmp_path / "runs", status="running")
    make_run(tmp_path / "runs", seed=1, status="failed")
    text = refusal(capsys, tmp_path / "runs", "--out", tmp_path / "out")
    assert text.startswith(
        f"lets-report: no finished run under {tmp_path / 'runs'} (0 finished, 1 unfinished, 1 failed)"
    )
    assert not (tmp_path / "out").exists()


def test_bad_input_is_one_line(tmp_path, capsys):
    assert "no-such: there is no such directory" in refusal(capsys, tmp_path / "no-such")
    assert "the following arguments are required: PATH" in refusal(capsys)
    assert "unrecognized arguments: --loud" in refusal(capsys, tmp_path, "--loud")
    make_run(tmp_path / "runs")
    (tmp_path / "file").write_text("")
    assert "file" in refusal(capsys, tmp_path / "runs", "--out", tmp_path / "file")


def test_help_says_what_is_made(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["--help"])
    assert stop.value.code == 0
    assert {"Markdown", "LaTeX", "PATH", "--out"} <= set(
        capsys.readouterr().out.replace(",", "").replace("(", "").split()
    )


# A process begins with the peak of the one that started it, so a small one starts the report and measures.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime, used.ru_maxrss)
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="ru_maxrss is counted in other units there")
def test_hundreds_of_runs_take_seconds(tmp_path):
    """2,000 runs of four data sets and models shall take under 10 s on two processors, that is 20 s of one, and 1 GB.

    A fifth of the runs in half of the figures takes less than half of that; the rest is for slow machines. It is the
    time of the processors, since these may be busy otherwise.
    """
    methods = ("erm", "sam", "asam", "lets_sam")
    count = make_many(
        tmp_path / "runs",
        data=("digits", "cifar10"),
        models=("convnet",),
        noises=(0.0, 0.2, 0.4, 0.6),
        methods=methods,
        seeds=13,
        epochs=40,
        steps=680,
    )
    assert count == 416
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *COMMAND, str(tmp_path / "runs"), "--out", str(tmp_path / "out")],
        check=True,
        env=environment,
        capture_output=True,
        text=True,
    )
    seconds, kibibytes = map(float, measured.stdout.split()[-2:])
    assert seconds < 20
    assert kibibytes < 2**20


def test_odd_directories_are_named_and_stop_nothing(tmp_path, capsys):
    make_run(tmp_path / "runs")
    broken = make_run(tmp_path / "runs", seed=1)
    (broken / "config.yaml").unlink()
    (broken / "config.yaml").symlink_to(tmp_path / "gone")
    odd = os.fsdecode(os.fsencode(tmp_path / "runs") + b"/caf\xe9")
    make_run(tmp_path / "runs", seed=2).rename(odd)
    make_run(tmp_path / "other", status="failed").rename(odd + "2")
    command.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.startswith("2 finished, 1 failed, 1 foreign; ")
    for name in ("directories.csv", "index.html"):
        assert str(broken) in (tmp_path / "out" / name).read_text(encoding="utf-8")
    assert "caf?" in (tmp_path / "out" / "directories.csv").read_text(encoding="utf-8")


def test_sharpness_in_full_stands_in_a_file_of_its_own(tmp_path):
    for seed in range(2):
        directory = make_run(tmp_path / "runs", seed=seed)
        (directory / "probe").mkdir()
        probe = {"examples": 9, "split": "val", "hessian_trace_error": 0.5, "m_sharpness": {"0.1": 1.0 + seed}}
        (directory / "probe" / "probe.json").write_text(json.dumps(probe))
    make_run(tmp_path / "runs", method="erm")
    command.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    [row] = csv.DictReader((tmp_path / "out" / "sharpness.csv").read_text().splitlines())
    assert (row["method"], row["seeds"], row["measured_on"]) == ("sam", "2", "9 val")
    assert (row["m_sharpness(0.1)_mean"], row["m_sharpness(0.1)_sd"]) == ("1.5", "0.707106781")
    assert (row["hessian_trace_error_mean"], row["hessian_trace_mean"]) == ("0.5", "")
