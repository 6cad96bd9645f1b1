"""`scripts/reproduce`: an experiment from one command, killed half-way and started again."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import grid, write_cifar10
from corpus import write_corpus

TINY = ("model.layers=1", "model.width=16", "model.hidden=32", "model.heads=2", "device=cpu")
SCRIPT = Path(__file__).parents[1] / "scripts" / "reproduce"


def reproduce(*arguments, **settings):
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **settings
    )


def finished(folder):
    summaries = {path: json.loads(path.read_text()) for path in folder.rglob("summary.json")}
    return [path for path, summary in summaries.items() if summary["status"] == "finished"]


@pytest.mark.full
def test_killed_half_way_and_started_again(tmp_path):
    words = ("cifar10_vit_s", "--scale", "smoke", "--output", str(tmp_path))
    process = reproduce(*words, start_new_session=True)
    while not finished(tmp_path):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = {path: path.stat().st_mtime_ns for path in finished(tmp_path)}
    assert 0 < len(before) < 5
    process = reproduce(*words)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out[-3000:]
    assert f"5 runs: {5 - len(before)} finished, 0 failed, {len(before)} skipped (finished before)" in out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with open(tmp_path / "report" / "table.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) >= 1


@pytest.mark.full
def test_any_folder_will_do(tmp_path):
    output = tmp_path / "x (1), é; a=b's" / "[q,r]\\"
    words = (
        "cifar10_vit_s",
        "--scale",
        "smoke",
        "method=erm",
        "epochs=1",
        "--launcher",
        "basic",
        "--output",
        str(output),
    )
    process = reproduce(*words)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out[-3000:]
    assert len(finished(output)) == 1
    assert (output / "report" / "table.csv").is_file()


def test_an_experiment_on_texts(tmp_path):
    words = ("glue", "--scale", "smoke", "data.task=cola", "method=erm,lets_sam", "epochs=1", "--launcher", "basic")
    process = reproduce(*words, "--output", str(tmp_path))
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out[-3000:]
    assert len(finished(tmp_path)) == 2
    assert (tmp_path / "report" / "table.csv").is_file()


@pytest.mark.full
def test_an_experiment_on_sentences(tmp_path):
    words = ("iwslt14", "--scale", "smoke", "method=erm,horizon_sam", "epochs=1", "--launcher", "basic")
    process = reproduce(*words, "--output", str(tmp_path))
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out[-3000:]
    assert len(finished(tmp_path)) == 2
    text = (tmp_path / "report" / "table.md").read_text()
    assert text.startswith("## Test loss in nats\n") and "tokenized bleu" in text


@pytest.mark.parametrize("here", grid([True, False], [False]))
def test_what_a_translation_comes_to_is_said_with_and_without_its_files(tmp_path, here):
    root = write_corpus(tmp_path / "text", train=120) if here else tmp_path / "nowhere"
    words = (f"data.root={root}", "data.merges=40", "data.max_tokens=200", "method=erm", "seed=0", "epochs=3")
    out, _ = reproduce("iwslt14", "--dry-run", *words, *TINY).communicate(timeout=300)
    steps = int(out.split(", full: ")[1].replace(",", "").split()[2])
    if here:  # as many as pairs of its longest sentences come to, or more of others
        assert 3 * 120 * 12 / 200 / 2 < steps < 3 * 120 * 30 / 200
        assert "assumed" not in out
    else:
        assert steps == 3 * round(160_239 / 157.3 * 4096 / 200)
        assert "its published 160,239 training pairs are assumed" in out


def test_what_full_comes_to_is_said_first(tmp_path):
    out, _ = reproduce("digits", "--dry-run", "--output", str(tmp_path)).communicate(timeout=300)
    # 4 noises x 10 methods, 5 more radii of SAM, 4 more starts of two rules; 5 seeds
    words = out.split(", full: ")[1].replace(",", "").split()
    runs, evaluations = int(words[0]), int(words[2])
    steps = 40 * (1131 // 64)  # epochs, and batches of the training split
    # SGD takes one evaluation a step; SAM, ASAM and the ramp two; gap matching two, and LETS and horizon LETS three
    assert runs == 5 * (32 + 5 + 8 + 8)
    assert (
        abs(evaluations / (5 * steps * (4 * (1 + 2 + 2 + 2 + 3 + 3 + 2 + 2 + 3 + 3) + 5 * 2 + 4 * 3 + 4 * 2)) - 1)
        < 0.01
    )
    assert re.search(r", about [1-9]0*(,000)* (minute|hour)s? of this machine", out), out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ([0.1, 30, 80], "1 minute"),
        ([100, 130, 149], "2 minutes"),
        ([1700, 2000], "30 minutes"),
        ([3600, 5000], "1 hour"),
        ([2.6 * 3600, 3.4 * 3600], "3 hours"),
        ([36 * 3600, 44 * 3600], "40 hours"),
        ([1999 * 3600], "2,000 hours"),
    ],
)
def test_hours_are_those_of_the_estimate_before(seconds, words, monkeypatch):
    """Times vary by a tenth and more; what is said of them shall not."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from costs import length

    assert {length(number) for number in seconds} == {words}


def test_what_makes_a_method_cheaper_is_counted(tmp_path):
    words = ("method=lets_sam", "sam.rho=0.05", "radius.every=10", "data.label_noise=0", "seed=0")
    out, _ = reproduce("digits", "--dry-run", "--output", str(tmp_path), *words).communicate(timeout=300)
    evaluations = int(out.split(", full: ")[1].replace(",", "").split()[2])
    assert abs(evaluations / (2.1 * 680) - 1) < 0.02


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (["digits", "--scale", "small"], 2 * (32 + 5 + 8 + 8)),
        (["loss_landscape", "--scale", "small"], 2 * 5),
        (["generalization_gap", "--scale", "small"], 2 * 3 * 5),
        (["imagenet_resnet50", "--scale", "small", "method=sam,asam", "seed=4"], 2),
        (
            ["digits", "method=sam", "sam.rho=0.05,0.1", "data.label_noise=0.0,0.4", "seed=0"],
            4,
        ),  # of grids that overlap
        (["glue", "--scale", "small"], 8 * 6 * 2),
        (["glue", "--scale", "smoke"], 3 * 6),
        (["iwslt14", "--scale", "smoke"], 6),
        (["iwslt14", "--scale", "small"], 6 * 2),
        (["loss_landscape", "--scale", "smoke", "method=choice(sam,asam)", "epochs=1"], 2),
    ],
)
def test_sweeps_of_a_scale_and_of_the_command_line_are_counted(tmp_path, words, runs):
    out, _ = reproduce(*words, "--dry-run", "--output", str(tmp_path)).communicate(timeout=300)
    assert f": {runs} runs" in out, out[-3000:]


ONE_RUN = ["--dry-run", "seed=0", "method=erm", "epochs=2"]
LITTLE_VIT = ["cifar10_vit_s", "model.depth=1", "model.width=24", "model.heads=3"]


LITTLE = (LITTLE_VIT, "50,000 training images", 2 * (45_000 // 128))
LITTLE_IMAGENET = (
    ["imagenet_resnet50", "model=mlp", "data.size=32"],
    "1,281,167 training images",
    2 * (1_153_050 // 256),
)
LITTLE_GLUE = (
    ["glue", "model=auto_text", "model.width=16", "data.task=rte"],
    "2,490 training texts",
    2 * (2_241 // 32),
)


@pytest.mark.parametrize(
    ("words", "published", "steps"),
    grid([LITTLE, LITTLE_IMAGENET, LITTLE_GLUE], [LITTLE]),
)
def test_what_full_comes_to_needs_no_data(tmp_path, words, published, steps):
    out, _ = reproduce(*words, *ONE_RUN, f"data.root={tmp_path}").communicate(timeout=300)
    assert f" 1 runs, {steps:,} gradient evaluations" in out, out[-3000:]
    assert f"(the data set is not here: its published {published} are assumed)" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
def test_what_full_comes_to_is_counted_on_data_that_are_there(tmp_path):
    write_cifar10(tmp_path)
    out, _ = reproduce(*LITTLE_VIT, *ONE_RUN, f"data.root={tmp_path}", "batch_size=16").communicate(timeout=300)
    assert f" 1 runs, {2 * (180 // 16)} gradient evaluations" in out, out[-3000:]
    assert "assumed" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digits", "--scle", "small"], "--scle: there is no such option"),
        (["digits", "--dry-run", "bogus.key=1"], "bogus: there is no key bogus"),
        (["digits", "--dry-run", "method=samm,sam"], "method=samm: there is no such method"),
        (["digits", "--dry-run", "optimizer.lr=-1"], "optimizer: Invalid learning rate: -1"),
        (["digits", "--dry-run", "epochs=[1"], "no viable alternative"),
    ],
)
def test_bad_input_is_one_line(tmp_path, words, message):
    process = reproduce(*words, "--output", str(tmp_path))
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 2
    assert out.startswith("reproduce: ") and out.count("\n") == 1, out[-3000:]
    assert message in out
    assert list(tmp_path.iterdir()) == []


def test_unknown_experiments_are_refused_with_their_names():
    process = reproduce("cifar11")
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 2
    assert "cifar10_resnet18" in out
