"""Columns: how they read, which value is better, and that a run's summary brings them back."""

import json
import math

import pytest

from lets_runner.columns import Column, Columns, written

ACCURACY, ERROR = Column("accuracy", "%"), Column("mse", better="lower")


def test_values_are_shown_with_their_unit():
    assert ACCURACY.show(0.93271) == "93.27%"
    assert ACCURACY.show(0.93271, 1) == "93.3%"
    assert Column("bleu", "points").show(34.5432) == "34.54 points"
    assert ERROR.show(0.001234567) == "0.001235"


@pytest.mark.parametrize(("column", "better", "worse"), [(ACCURACY, 0.7, 0.6), (ERROR, 0.1, 0.2)])
def test_better(column, better, worse):
    assert column.beats(better, worse)
    assert not column.beats(worse, better)
    assert not column.beats(better, better)
    assert column.beats(worse, math.nan)
    assert not column.beats(math.nan, worse)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Column("top 5"), "name='top 5'"),
        (lambda: Column("a", better="more"), "better='more'"),
        (lambda: Column("a", when=("dev",)), "when="),
        (lambda: Columns((ACCURACY, ACCURACY), "accuracy"), "a name of its own"),
        (lambda: Columns((ACCURACY,), "f1"), "selects='f1': must be one of loss, accuracy"),
        (lambda: Columns((Column("bleu", when=("test",)),), "bleu"), "must be measured on val and test"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_summary_brings_them_back():
    columns = Columns((ERROR, Column("bleu", "points", when=("test",))), "mse", Column("loss", "nats", "lower"))
    summary = json.loads(json.dumps({"columns": columns.plain()}))
    assert written(summary) == columns
    assert columns.of("val") == ["val_loss", "val_mse"]
    assert columns.of("test") == ["test_loss", "test_mse", "test_bleu"]


def test_runs_from_before_columns_were_written_down_measured_shares():
    summary = {"train_loss": 0.1, "train_accuracy": 0.9, "val_loss": 0.2, "val_accuracy": 0.8, "test_accuracy": 0.7}
    assert written(summary) == Columns((ACCURACY,), "accuracy")


@pytest.mark.parametrize("plain", [[], [{}], {"name": "loss"}, 7, [{"name": "loss", "selects": False}]])
def test_a_damaged_summary_is_named(plain):
    with pytest.raises(ValueError, match="columns: "):
        written({"columns": plain})
