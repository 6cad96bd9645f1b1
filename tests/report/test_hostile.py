"""Whatever lies in a directory: the report is made, and says what it left out."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import grid
from made import make_run

from lets_runner.report import command
from lets_runner.report.runs import find

DEEP = 100_000
BOMB = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}\n" for i in range(1, 60))
HASH = "# " + "e" * 64 + "\n"


def report(tmp_path, capsys):
    """The report of what lies in `runs`; returns why directories do not count. Nothing may be complained of."""
    command.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("\n") == 1
    with open(tmp_path / "out" / "directories.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert (tmp_path / "out" / "index.html").read_text(encoding="utf-8").endswith("</html>")
    return {Path(row["directory"]).name: row["reason"] for row in rows if row["state"] != "finished"}


def change(directory, **values):
    path = directory / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def good(tmp_path):
    """Runs that every figure is drawn of."""
    for rho in (0.05, 0.1):
        for method in ("sam", "lets_sam"):
            make_run(tmp_path / "runs", method=method, rho=rho)
            make_run(tmp_path / "runs", method=method, rho=rho, noise=0.4)


FILES = {
    "summary-deep": ("summary.json", "[" * DEEP),
    "summary-deep-inside": ("summary.json", '{"status": "finished", "columns": ' + '{"a":' * DEEP),
    "summary-digits": ("summary.json", '{"seed": ' + "9" * 10_000 + "}"),
    "summary-bytes": ("summary.json", b"\xff\xfe\x00"),
    "config-bomb": ("config.yaml", HASH + BOMB),
    "config-list-bomb": ("config.yaml", HASH + BOMB.replace("{x: 1}", "[1]").replace("{x: ", "[").replace("y: ", "")),
    "config-itself": ("config.yaml", HASH + "a: &a {b: *a}\n"),
    "config-deep": ("config.yaml", HASH + "a: " + "{b: " * 900 + "1" + "}" * 900 + "\n"),
    "config-deeper": ("config.yaml", HASH + "a: " + "[" * DEEP + "\n"),
    "config-hex": ("config.yaml", HASH + "epochs: 0x" + "f" * 20_000 + "\n"),
    "config-digits": ("config.yaml", HASH + "epochs: " + "9" * 10_000 + "\n"),
    "config-date": ("config.yaml", HASH + "epochs: 2001-99-99\n"),
    "config-code": ("config.yaml", HASH + "epochs: !!python/object/apply:os.getpid []\n"),
    "config-bytes": ("config.yaml", HASH.encode() + b"a: \xff\n"),
    "epochs-bytes": ("epochs.csv", b"epoch,\xff\n1,2\n"),
    "epochs-null": ("epochs.csv", b"epoch,a\n1,\0\n"),
    "evaluation-bytes": ("evaluation.csv", b"checkpoint,data,corruption,severity,\xff\n1,2,3,4,5\n"),
    "evaluation-short": ("evaluation.csv", "checkpoint,data,corruption,severity,accuracy\nlast,test\n"),
    "evaluation-words": ("evaluation.csv", "checkpoint,data,corruption,severity,accuracy\nlast,test,,,good\n"),
    "evaluation-large": ("evaluation.csv", "checkpoint,data,corruption,severity,accuracy\nlast,test,,,1e300\n"),
    "epochs-field": ("epochs.csv", "epoch,a\n1," + "9" * 200_000 + "x\n"),
}


def write(root, name, seed=9):
    file, content = FILES[name]
    bad = make_run(root, folder=name, seed=seed)
    (bad / file).write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_nobody_should_read_is_named(tmp_path, name):
    make_run(tmp_path, folder="good")
    write(tmp_path, name)
    found = find([tmp_path])
    assert [run.directory.name for run in found.runs] == ["good"]
    [other] = found.others
    assert (other.directory.name, other.state) == (name, "foreign")
    assert FILES[name][0] in other.reason
    assert len(other.reason) <= 1000 and other.reason.isprintable()


def test_the_others_are_reported_on(tmp_path, capsys, good):
    for number, name in enumerate(FILES):
        write(tmp_path / "runs", name, seed=number)
    assert {*report(tmp_path, capsys)} == {*FILES}


@pytest.mark.parametrize("file", ["summary.json", "config.yaml", "epochs.csv", "probe/probe.json", "evaluation.csv"])
def test_a_pipe_is_not_waited_for(tmp_path, file):
    make_run(tmp_path / "runs", folder="good")
    bad = make_run(tmp_path / "runs", folder="bad", seed=9)
    (bad / "probe").mkdir()
    (bad / file).unlink(missing_ok=True)
    os.mkfifo(bad / file)
    code = (
        "import sys; from lets_runner.report.runs import find; from pathlib import Path; f = find([Path(sys.argv[1])])"
    )
    code += "; print(len(f.runs), [(o.state, o.reason) for o in f.others])"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "runs"], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("1 [('foreign', "), done.stderr


SUMMARIES = {
    "test-nan": {"test_accuracy": math.nan},
    "test-inf": {"test_accuracy": math.inf},
    "val-nan": {"val_accuracy": math.nan, "gap": -math.inf, "seconds": math.nan, "peak_memory": math.inf},
    "start-odd": {"rho_start": -1.0},
    "start-nan": {"rho_start": math.nan, "rho": math.inf},
    "device": {"device": {"a": ["\ud800", "\x00"]}, "processes": [1, 2]},
    "mathematics": {"data": r"$\frac{$", "model": "$_{$^"},
    "mathematics-2": {"method": r"lets_$\nonsense{$"},
    "surrogate": {"data": "\ud800 digits", "model": "\udfff", "method": "lets_\ud83d"},
    "control": {"data": "a\x00b\x1b[2J\r\n", "model": "\u202e\u200b\ufeff", "method": "lets_\t"},
    "no-glyph": {"data": "\U0001f600\u4f60", "method": "lets_\U0001f600"},
    "long": {"data": "d" * 10_000, "model": "m " * 5_000, "method": "lets_" + "sam" * 3_000},
    "empty": {"data": "", "model": "", "method": ""},
    "dots": {"data": "..", "model": "/", "method": "."},
    "markup": {"data": "</script><script>alert(1)</script>", "model": "`|*_[x](y)", "method": "lets_<b>"},
    "seed": {"seed": 2**80},
    "large": {"test_accuracy": 1e99, "val_accuracy": -1e99, "seconds": 1e99},
}


@pytest.mark.parametrize("name", grid(SUMMARIES, ["test-nan", "mathematics", "surrogate", "long", "large"]))
def test_odd_values_are_drawn_and_tabled(tmp_path, capsys, name):
    for seed, rho in enumerate((0.05, 0.1)):
        for noise in (0.0, 0.4):
            for method in ("sam", "lets_sam"):
                run = make_run(tmp_path / "runs", method=method, rho=rho, noise=noise, seed=9)
                change(run, **({"seed": 9 + seed} | SUMMARIES[name]))
    assert report(tmp_path, capsys) == {}


@pytest.mark.parametrize("value", [10**400, 1e300, True, "x", [1], {"a": 1}], ids=lambda value: str(value)[:9])
@pytest.mark.parametrize("key", ["test_accuracy", "gap", "seed", "epochs", "test_loss"])
def test_numbers_that_are_none_are_named(tmp_path, key, value):
    change(make_run(tmp_path, folder="bad"), **{key: value})
    [other] = find([tmp_path]).others
    assert other.state == "foreign"
    assert other.reason.startswith(f"summary.json: {key} is no ")


CONFIGURATIONS = [
    {"sam.rho": "abc"},
    {"sam.rho": None},
    {"sam.rho": math.nan},
    {"sam.rho": math.inf},
    {"sam.rho": -1},
    {"sam.rho": [0.1]},
    {"data.label_noise": math.nan},
    {"data.label_noise": 1e308},
    {"data.label_noise": "much"},
    {"data.noise": {"a": 1}},
    {"optimizer.lr": math.nan},
    {"optimizer.lr": ["\x01"]},
    {"sam._target_": None},
    {"radius._target_": 3},
    {"radius._target_": "mine.\x01$\\frac{$"},
    {"epochs": {"3": None}},
    {"k" * 1_000: "v" * 5_000},
    {"optimizer.\x01\n": "\x01\n"},
]


@pytest.mark.parametrize("settings", grid(CONFIGURATIONS, CONFIGURATIONS[:1]), ids=lambda one: next(iter(one))[:20])
def test_odd_settings_are_told(tmp_path, capsys, settings):
    for method in ("erm", "sam", "lets_sam"):
        for noise in (0.0, 0.4):
            make_run(tmp_path / "runs", method=method, noise=noise, rho=0.1, extra={"epochs": 3, "x": noise} | settings)
            make_run(tmp_path / "runs", method=method, noise=noise)
    assert report(tmp_path, capsys) == {}


@pytest.mark.parametrize(
    "rows",
    ["1,nan,inf,1e300,-1e300,nan,nan", "1,0,0,-1,-inf,1e99,-1e99", "nan,1,1,1,1,1,1", "1e300,1,1,1,1,1,1"],
)
def test_odd_trajectories_are_drawn(tmp_path, capsys, rows):
    header = "epoch,train_loss,train_accuracy,val_loss,val_accuracy,gap,rho"
    for seed, method in enumerate(("sam", "lets_sam")):
        for more in range(2):
            run = make_run(tmp_path / "runs", method=method, seed=9 + seed + 10 * more, rho=0.2)
            (run / "epochs.csv").write_text(f"{header}\n{rows}\n{rows}\n{rows}\n")
    assert report(tmp_path, capsys) == {}


def test_seeds_of_other_lengths_are_no_curve(tmp_path, capsys):
    make_run(tmp_path / "runs", folder="three")
    longer = make_run(tmp_path / "runs", folder="five", seed=1)
    for epoch in (4, 5):
        with open(longer / "epochs.csv", "a") as file:
            file.write(f"{epoch},1,1,1,1,1,1,1,1,1,1\n")
    change(longer, epochs=5)
    assert report(tmp_path, capsys) == {}


FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "=cmd|' /C calc'!A0"]


@pytest.mark.parametrize("formula", grid(FORMULAS, FORMULAS[-1:]))
def test_no_cell_of_a_csv_is_a_formula(tmp_path, capsys, formula, monkeypatch):
    make_run(tmp_path / "runs", method="erm", seconds=1.0)
    run = make_run(tmp_path / "runs", extra={formula: formula}, folder="run")
    change(run, data=formula, model=formula, method=formula, gap=-0.5)
    (run / "probe").mkdir()
    (run / "probe" / "probe.json").write_text(json.dumps({"split": formula, "hessian_trace": -2.0}))
    (run.parent / formula.replace("/", "")).mkdir()
    (run.parent / formula.replace("/", "") / "summary.json").write_text(
        json.dumps({"status": "failed", "error": formula})
    )
    monkeypatch.chdir(tmp_path / "runs")
    command.main([".", "--out", str(tmp_path / "out")])
    numbers = []
    for name in ("table.csv", "sharpness.csv", "directories.csv"):
        with open(tmp_path / "out" / name, newline="", encoding="utf-8") as file:
            for cell in (cell for row in csv.reader(file) for cell in row if cell[:1] in ("=", "+", "-", "@")):
                numbers.append(float(cell))  # a formula is none
    assert {-0.5, -2.0} <= set(numbers)  # which are left as they are


def test_a_configuration_may_be_shared_by_directories_of_other_content(tmp_path, capsys):
    """The hash in the first line is taken at its word; what it belies is no reason to fail."""
    one = make_run(tmp_path / "runs", method="sam")
    other = make_run(tmp_path / "runs", method="lets_sam", seed=1, epochs=5)
    text = (other / "config.yaml").read_text()
    first = (one / "config.yaml").read_text().split("\n")[0]
    (other / "config.yaml").write_text(first + text[text.index("\n") :])
    assert report(tmp_path, capsys) == {}
