"""Directories found, and why some are no finished runs."""

import json
import os

import pytest
from made import make_run

from lets_runner import config
from lets_runner.report.runs import ASIDE, ASIDE_OF_DATA, find


def states(found):
    return {other.directory.name: (other.state, other.reason) for other in found.others}


def rewrite(directory, **values):
    path = directory / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_makes_no_other_configuration_is_what_the_runner_says():
    assert ASIDE == config.ASIDE
    assert ASIDE_OF_DATA == config.ASIDE_OF_DATA


def test_reads_a_finished_run(tmp_path):
    make_run(tmp_path, method="lets_sam", seed=3, noise=0.4, accuracy=0.75, epochs=4)
    [run] = find([tmp_path]).runs
    assert run.seed == 3
    assert run.number("test_accuracy") == 0.75
    assert run.settings["sam.rho"] == 0.05
    assert run.settings["data.label_noise"] == 0.4
    assert not {"seed", "output", "derived.total_steps"} & set(run.settings)
    assert run.total_steps == 68
    assert run.epochs["epoch"].tolist() == [1, 2, 3, 4]


def test_says_why_a_directory_is_no_finished_run(tmp_path):
    make_run(tmp_path, folder="good")
    for seed, (name, values) in enumerate(
        {
            "running": {"status": "running", "epochs": None},
            "stopped": {"status": "interrupted", "epochs": 2},
            "diverged": {"status": "failed", "error": "loss is\nnan"},
            "untested": {"test_accuracy": None},
            "wordless": {"method": None},
            "odd": {"status": "strange"},
            "text": {"test_accuracy": "high"},
            "short": {"epochs": 7},
        }.items(),
        start=1,
    ):
        rewrite(make_run(tmp_path, folder=name, seed=seed), **values)
    found = find([tmp_path])
    assert [run.directory.name for run in found.runs] == ["good"]
    assert states(found) == {
        "running": ("unfinished", "running"),
        "stopped": ("unfinished", "interrupted after 2 epochs"),
        "diverged": ("failed", "loss is nan"),
        "untested": ("unfinished", "no test accuracy"),
        "wordless": ("foreign", "summary.json lacks method"),
        "odd": ("foreign", "summary.json has no status of a run"),
        "text": ("foreign", "summary.json: test_accuracy is no number"),
        "short": ("foreign", "epochs.csv has 3 of 7 epochs"),
    }
    assert found.counts == "1 finished, 3 unfinished, 1 failed, 4 foreign"


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("summary.json", "{", "summary.json cannot be read: "),
        ("summary.json", "[]", "summary.json is no mapping"),
        ("epochs.csv", "epoch,loss\n1,2\n2\n", "epochs.csv cannot be read: "),
        ("epochs.csv", "epoch,loss\n1,two\n", "epochs.csv cannot be read: could not convert string to float: 'two'"),
        ("config.yaml", "sam: {rho: 1}\n", "config.yaml does not begin with the hash of a configuration"),
        ("config.yaml", "# " + "0" * 64 + "\nsam: [\n", "config.yaml cannot be read: "),
        ("config.yaml", "# " + "0" * 64 + "\n- 1\n", "config.yaml is no mapping"),
        ("config.yaml", "# " + "0" * 64 + "\na: !!python/object/apply:len [[]]\n", "config.yaml cannot be read: "),
    ],
)
def test_names_a_file_that_cannot_be_read(tmp_path, file, content, reason):
    directory = make_run(tmp_path, folder="run")
    (directory / file).write_text(content)
    [(state, why)] = states(find([tmp_path])).values()
    assert state == "foreign"
    assert why.startswith(reason)
    assert "\n" not in why


def test_a_probe_that_makes_no_sense_is_named(tmp_path):
    directory = make_run(tmp_path, folder="run")
    (directory / "probe").mkdir()
    (directory / "probe" / "probe.json").write_text('{"m_sharpness": {"0.05": "flat"}}')
    assert states(find([tmp_path]))["run"][0] == "foreign"
    (directory / "probe" / "probe.json").write_text('{"m_sharpness": {"0.05": 0.1}}')
    assert find([tmp_path]).runs[0].probe == {"m_sharpness": {"0.05": 0.1}}


def test_a_run_found_by_two_paths_counts_once(tmp_path):
    make_run(tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    found = find([tmp_path, tmp_path / "a", tmp_path / "link"])
    assert (len(found.runs), found.others) == (1, [])


def test_of_two_with_one_configuration_and_seed_the_newer_counts(tmp_path):
    old = make_run(tmp_path, accuracy=0.5, folder="b-old")
    new = make_run(tmp_path, accuracy=0.6, folder="a-new")
    make_run(tmp_path, accuracy=0.7, folder="c-seed", seed=1)
    os.utime(old / "summary.json", (1, 1))
    found = find([tmp_path])
    assert sorted(run.number("test_accuracy") for run in found.runs) == [0.6, 0.7]
    assert states(found) == {"b-old": ("superseded", f"the same run is newer in {new}")}


def test_what_lies_inside_a_run_is_not_taken_for_runs(tmp_path):
    outer = make_run(tmp_path, folder="run")
    make_run(outer, folder="copies/run", seed=1)
    assert [run.directory for run in find([tmp_path]).runs] == [outer]


def test_what_is_hidden_is_passed_over_unless_asked_for(tmp_path):
    run = make_run(tmp_path, folder="run")
    copy = make_run(tmp_path, folder=".copies/run")
    assert [run.directory for run in find([tmp_path]).runs] == [run]
    assert [run.directory for run in find([tmp_path / ".copies"]).runs] == [copy]


def test_a_stray_file_hides_no_runs_below(tmp_path):
    make_run(tmp_path, folder="below/run")
    (tmp_path / "steps.csv").write_text("a\n")
    found = find([tmp_path])
    assert len(found.runs) == 1
    assert [(other.directory, other.reason) for other in found.others] == [(tmp_path, "no summary.json")]


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing: there is no such directory"):
        find([tmp_path / "nothing"])
