"""Which settings are drawn where there are too many."""

import pytest
from made import REGRESSION, make_run

from lets_runner.report import sensitivity, trajectories
from lets_runner.report.choice import BEST, FIRST, SHOWN, few
from lets_runner.report.grid import grid
from lets_runner.report.methods import styles
from lets_runner.report.runs import find

EASY, HARD = 0.0, 0.4  # label noise
BEST_SAID = "Of each method the setting with the highest validation accuracy."
FIRST_SAID = "Where no validation accuracy tells a method's settings apart, the first of them."


def made(path):
    return grid(find([path]).runs)


def looks(one):
    return styles(column.method.word for column in one.columns)


def labels(columns):
    return [column.label for column in columns]


def radii(root, noise, **settings):
    """One setting more than are shown, of which ρ = 0.05 is by far not the best."""
    for number in range(SHOWN + 1):
        val = settings.get("val_accuracy", 0.9 if number == 7 else 0.5)
        make_run(root, **{"rho": 0.01 * (number + 1), "noise": noise, **settings, "val_accuracy": val})


def figures(path):
    one = made(path)
    return [
        *(make(one, looks(one)) for make in (trajectories.score_and_loss, trajectories.gap)),
        sensitivity.over_noise(one, looks(one)),
    ]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].texts]


def notes(figure):
    return " ".join(" ".join(text.get_text() for text in figure.texts if text is not figure._suptitle).split())


def test_as_many_as_can_be_followed_are_all_shown(tmp_path):
    for number in range(SHOWN):
        make_run(tmp_path, rho=0.01 * (number + 1), val_accuracy=0.9 if number == 4 else 0.5, accuracy=number / 100)
    assert len(few(made(tmp_path).cells)[0]) == SHOWN
    make_run(tmp_path, method="erm", val_accuracy=0.1)
    columns, said = few(made(tmp_path).cells)
    assert (labels(columns), said) == (["ERM", "SAM (ρ = 0.05)"], {BEST})


def test_settings_are_compared_on_the_rows_that_all_have(tmp_path):
    """ρ = 0.05 was tried on easy data too, where any radius does well: its mean is the highest, and says nothing."""
    radii(tmp_path, HARD)
    make_run(tmp_path, rho=0.05, noise=EASY, val_accuracy=1.0)
    make_run(tmp_path, rho=0.05, noise=0.2, val_accuracy=1.0)
    columns, said = few(made(tmp_path).cells)
    assert (labels(columns), said) == (["SAM (ρ = 0.08)"], {BEST})


def test_a_panel_shows_the_best_of_its_own_row(tmp_path):
    radii(tmp_path, HARD)
    make_run(tmp_path, rho=0.05, noise=EASY, val_accuracy=1.0)
    curves, gap, noise = figures(tmp_path)
    for figure in (curves, gap):
        assert [len(axes.lines) for axes in figure.axes[:2]] == [1, 1]  # the easy panel has its only setting
        assert legend(figure) == ["SAM (ρ = 0.05)", "SAM (ρ = 0.08)"]
        assert len({line.get_linestyle() for axes in figure.axes[:2] for line in axes.lines}) == 2
        assert notes(figure) == BEST_SAID
    assert legend(noise) == ["SAM (ρ = 0.05)"]  # no other is a line
    assert notes(noise) == ""


def test_lines_over_noise_are_the_best_over_the_levels_that_all_have(tmp_path):
    radii(tmp_path, HARD)
    radii(tmp_path, 0.6)
    make_run(tmp_path, rho=0.05, noise=EASY, val_accuracy=1.0)
    noise = figures(tmp_path)[2]
    assert (legend(noise), notes(noise)) == (["SAM (ρ = 0.08)"], BEST_SAID)


@pytest.mark.parametrize("both", [False, True])
def test_without_validation_the_first_is_shown_and_said_to_be(tmp_path, both):
    for noise in (EASY, HARD):
        radii(tmp_path, noise, val_accuracy=None)
        radii(tmp_path, noise, method="asam", val_accuracy=None if both else 0.5)
    for figure in figures(tmp_path):
        assert legend(figure)[0] == "SAM (ρ = 0.01)"
        assert notes(figure) == (FIRST_SAID if both else f"{BEST_SAID} {FIRST_SAID}")


def test_settings_without_a_row_in_common_are_not_compared(tmp_path):
    radii(tmp_path, HARD)
    make_run(tmp_path, rho=0.9, noise=EASY, val_accuracy=1.0)
    assert few(made(tmp_path).cells)[1] == {FIRST}


def test_of_what_shall_be_low_the_lowest_is_shown(tmp_path):
    for number in range(SHOWN + 1):
        val = 0.1 if number == 7 else 0.5
        make_run(tmp_path, rho=0.01 * (number + 1), score="mse", val_mse=val, columns=REGRESSION)
    one = made(tmp_path)
    figure = trajectories.score_and_loss(one, looks(one))
    assert legend(figure) == ["SAM (ρ = 0.08)"]
    assert notes(figure) == "Of each method the setting with the lowest validation mse."
