"""The picture of a run."""

import math
import struct
import time

import pytest

from lets_runner.columns import Column, Columns
from lets_runner.report.curves import draw_curves, read_columns, running_mean

COLUMNS = Columns((Column("accuracy", "%"),), "accuracy")


def test_running_mean_passes_over_gaps():
    means = running_mean([math.nan, 1.0, 3.0, math.nan, 8.0], 2)
    assert math.isnan(means[0])
    assert means[1:] == [1.0, 2.0, 2.0, 5.5]


def test_a_long_run_is_drawn_while_its_job_waits_to_be_queued_again(tmp_path):
    rows = (f"{step},{math.sin(step)},0.05\n" for step in range(300_000))
    (tmp_path / "steps.csv").write_text("step,gap,rho\n" + "".join(rows))
    started = time.process_time()
    assert draw_curves(tmp_path, COLUMNS).stat().st_size > 0
    assert time.process_time() - started < 10  # quadratic, it took a minute


def test_reads_columns_with_empty_cells(tmp_path):
    (tmp_path / "a.csv").write_text("step,gap\n1,\n2,0.5\n")
    columns = read_columns(tmp_path / "a.csv")
    assert columns["step"] == [1.0, 2.0]
    assert math.isnan(columns["gap"][0])
    assert columns["gap"][1] == 0.5
    assert read_columns(tmp_path / "none.csv") == {}


@pytest.mark.parametrize("gap", ["", "0.5"], ids=["fixed", "learned"])
def test_draws_a_picture_of_any_run(tmp_path, gap):
    (tmp_path / "epochs.csv").write_text(
        "epoch,train_loss,train_accuracy,val_loss,val_accuracy\n1,2,0.1,,\n2,1,0.5,,\n"
    )
    (tmp_path / "steps.csv").write_text(f"step,gap,rho\n1,,0.05\n2,{gap},0.06\n")
    content = draw_curves(tmp_path, COLUMNS).read_bytes()
    assert content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", content[16:24])
    assert width > height > 400


def test_draws_a_run_that_has_nothing_yet(tmp_path):
    assert draw_curves(tmp_path, COLUMNS).stat().st_size > 0


def test_the_title_says_what_and_which_seed_and_no_hash(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, file, **_: drawn.append(figure))
    directory = tmp_path / "cost-in-$-and-$" / "0a1b2c3d" / "seed=4"
    directory.mkdir(parents=True)
    draw_curves(directory, COLUMNS)
    assert drawn[0].get_suptitle() == "cost-in-$-and-$, seed=4"


def test_a_name_that_is_bad_mathematics_is_drawn(tmp_path):
    directory = tmp_path / "$\\frac{$" / "0a1b2c3d" / "seed=4"
    directory.mkdir(parents=True)
    columns = Columns((Column("accuracy", r"$\frac{$"),), "accuracy")
    assert draw_curves(directory, columns).read_bytes().startswith(b"\x89PNG")


def test_the_gap_is_that_of_epochs_where_steps_have_none(tmp_path, monkeypatch):
    """As of every rule that asks for no gap in its steps, the default one among them."""
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, file, **_: drawn.append(figure))
    (tmp_path / "epochs.csv").write_text("epoch,train_loss,val_loss,gap\n1,2,2.5,0.5\n2,1,1.75,0.75\n")
    (tmp_path / "steps.csv").write_text("step,gap,rho\n1,,0.05\n2,,0.06\n")
    draw_curves(tmp_path, COLUMNS)
    axes = drawn[0].axes[3]
    [line] = axes.get_lines()
    assert line.get_xydata().tolist() == [[1, 0.5], [2, 0.75]]
    assert (axes.get_title(), axes.get_xlabel()) == ("validation loss − training loss", "epoch")
