"""Which figures there are, and what they show."""

import numpy as np
import pytest
from made import REGRESSION, make_run

from lets_runner.report import sensitivity, trajectories
from lets_runner.report.figures import draw
from lets_runner.report.grid import grid
from lets_runner.report.methods import styles
from lets_runner.report.runs import find


def sheet(path):
    made = grid(find([path]).runs)
    return made, styles(column.method.word for column in made.columns)


def kinds(path, out):
    return {picture.path.stem.removeprefix("digits-convnet-") for picture in draw(*sheet(path), out)}


def line(axes, colour):
    """Heights of the line of one colour."""
    [found] = [line for line in axes.lines if line.get_color() == colour and len(line.get_xdata()) > 1]
    return np.asarray(found.get_ydata())


def test_draws_what_there_is_something_for(tmp_path):
    make_run(tmp_path / "runs", method="erm")
    assert kinds(tmp_path / "runs", tmp_path / "a") == {"curves", "gap"}
    make_run(tmp_path / "runs", method="lets_sam")
    make_run(tmp_path / "runs", method="sam")
    assert kinds(tmp_path / "runs", tmp_path / "b") == {"curves", "gap", "radius"}
    make_run(tmp_path / "runs", method="lets_sam", noise=0.2)
    make_run(tmp_path / "runs", method="lets_sam", rho=0.1)
    make_run(tmp_path / "runs", method="sam", rho=0.1)
    every = {"curves", "gap", "radius", "noise", "start", "fixed-radius"}
    assert kinds(tmp_path / "runs", tmp_path / "c") == every
    for kind in every:
        assert (tmp_path / "c" / f"digits-convnet-{kind}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "c" / f"digits-convnet-{kind}.pdf").read_bytes().startswith(b"%PDF")


def test_names_of_files_stay_in_the_directory(tmp_path):
    make_run(tmp_path / "runs", model="../../up", folder="a")
    make_run(tmp_path / "runs", model="..:..:up", folder="b")
    pictures = list(draw(*sheet(tmp_path / "runs"), tmp_path / "out"))
    assert len({picture.path for picture in pictures}) == 4
    assert {picture.path.resolve().parent for picture in pictures} == {tmp_path / "out"}


def test_curves_are_means_over_seeds_with_a_band(tmp_path):
    runs = [make_run(tmp_path, seed=seed, accuracy=0.8 + seed / 10) for seed in range(2)]
    made, looks = sheet(tmp_path)
    above = trajectories.score_and_loss(made, looks).axes[0]
    measured = [[float(r.split(",")[6]) for r in (d / "epochs.csv").read_text().splitlines()[1:]] for d in runs]
    assert line(above, looks["sam"].colour) == pytest.approx(100 * np.mean(measured, 0))
    [band] = above.collections
    heights = band.get_paths()[0].vertices[:, 1]
    mean, spread = 100 * np.mean(measured, 0), 100 * np.std(measured, 0, ddof=1)
    assert (heights.min(), heights.max()) == pytest.approx(((mean - spread).min(), (mean + spread).max()))


def test_radius_starts_where_it_started(tmp_path):
    make_run(tmp_path, method="lets_sam", rho=0.03)
    make_run(tmp_path, method="sam")
    made, looks = sheet(tmp_path)
    [axes] = trajectories.radius(made, looks).axes
    assert axes.get_yscale() == "log"
    assert len(axes.lines) == 1
    values = line(axes, looks["lets_sam"].colour)
    assert values[0] == pytest.approx(0.03)
    assert values[-1] == pytest.approx(0.03 * (1 + 3 * (1 - np.exp(-5))))


def test_fixed_radii_are_a_line_and_learned_ones_bands_from_every_start(tmp_path):
    for rho, accuracy in {0.05: 0.7, 0.1: 0.8, 0.2: 0.6}.items():
        for seed in range(2):
            make_run(tmp_path, rho=rho, seed=seed, accuracy=accuracy)
            make_run(tmp_path, method="lets_sam", rho=rho, seed=seed, accuracy=0.9 - rho + 0.02 * seed)
        make_run(tmp_path, method="lets_asam", rho=rho)
    made, looks = sheet(tmp_path)
    [axes] = sensitivity.over_fixed_radius(made, looks).axes
    [(points, _, _)] = [container.lines for container in axes.containers]
    assert points.get_xdata().tolist() == [0.05, 0.1, 0.2]
    assert points.get_ydata() == pytest.approx([70, 80, 60])
    starts = [(*mark.get_xdata(), *mark.get_ydata()) for mark in axes.lines if len(mark.get_xdata()) == 1]
    assert starts == [pytest.approx(pair) for pair in ((0.05, 86), (0.1, 81), (0.2, 71))]
    spans = [patch.get_height() for patch in axes.patches]
    assert spans == pytest.approx([2 * np.sqrt(2)] * 3)


def test_lines_over_label_noise_differ_in_noise_alone(tmp_path):
    for noise in (0.4, 0.0, 0.2):
        make_run(tmp_path, noise=noise, accuracy=1 - noise)
        make_run(tmp_path, noise=noise, accuracy=0.3, extra={"optimizer.lr": 0.1})
    made, looks = sheet(tmp_path)
    [axes] = sensitivity.over_noise(made, looks).axes
    lines = [container.lines[0] for container in axes.containers]
    for one, other in zip(*(one.get_xdata() for one in lines), strict=True):
        assert 0 < other - one < 1  # % of wrong labels: side by side, on either side of the same value
    assert np.mean([one.get_xdata() for one in lines], 0) == pytest.approx([0, 20, 40])
    assert [one.get_ydata() for one in lines] == [pytest.approx([100, 80, 60]), pytest.approx([30] * 3)]
    assert len({one.get_linestyle() for one in lines}) == 2


@pytest.mark.parametrize("panels", [1, 4])
def test_nothing_overlaps(tmp_path, panels):
    """No word of a figure lies on another, or on the axes of a panel, or over the edge."""
    for noise in np.arange(panels) / 5:
        for method in ("erm", "sam", "lets_sam", "gm_sam", "lets_paper_sam"):
            for rho in (0.05, 0.1) if method != "erm" else (0.05,):
                make_run(tmp_path, method=method, noise=float(noise), rho=rho, model="a-name-that-is-rather-long" * 2)
    made, looks = sheet(tmp_path)
    for make in (trajectories.score_and_loss, trajectories.radius, sensitivity.over_fixed_radius):
        figure = make(made, looks)
        figure.draw_without_rendering()
        boxes = [figure._suptitle.get_window_extent(), figure.legends[0].get_window_extent()]
        boxes += [axes.get_tightbbox() for axes in figure.axes]
        for number, box in enumerate(boxes):
            assert figure.bbox.padded(1).contains(*box.min) and figure.bbox.padded(1).contains(*box.max)
            assert not any(box.overlaps(other) for other in boxes[number + 1 :])


def test_noise_without_several_radii_has_no_panel_of_radii(tmp_path):
    for noise, radii in {0.0: (0.05,), 0.4: (0.05, 0.1)}.items():
        for rho in radii:
            make_run(tmp_path, method="sam", noise=noise, rho=rho)
        make_run(tmp_path, method="lets_sam", noise=noise)
    [axes] = sensitivity.over_fixed_radius(*sheet(tmp_path)).axes
    assert axes.get_title() == "label noise 40 %"


def settings_told_apart(figure):
    """Colour and dashes of every line, by panel."""
    return [[(line.get_color(), line.get_linestyle()) for line in axes.lines] for axes in figure.axes]


def test_lines_of_one_method_are_told_apart_by_their_start(tmp_path):
    starts = [0.01 * 1.5**number for number in range(15)]
    for rho in starts:
        make_run(tmp_path, method="lets_sam", rho=rho)
    figure = trajectories.radius(*sheet(tmp_path))
    [lines] = settings_told_apart(figure)
    assert len(lines) == len(set(lines)) == 15
    names = [text.get_text() for text in figure.legends[0].texts]
    assert names == [f"LETS-SAM (ρ₀ = {starts[0]:g})", f"LETS-SAM (ρ₀ = {starts[-1]:g})"]


def test_a_rule_without_a_start_has_none_in_any_figure(tmp_path):
    for rho in (0.05, 0.1):
        make_run(tmp_path, rho=rho)
    make_run(tmp_path, method="lets_sam")
    make_run(tmp_path, method="horizon_sam", rho_start=None)
    made, looks = sheet(tmp_path)
    values = line(trajectories.radius(made, looks).axes[0], looks["horizon_sam"].colour)
    assert np.isnan(values[0]) and np.isfinite(values[1:]).all()
    figure = sensitivity.over_fixed_radius(made, looks)
    names = [text.get_text() for text in figure.legends[0].texts]
    assert "Horizon-SAM, no start" in names and "LETS-SAM" in names
    [axes] = figure.axes
    at = {one.get_color(): one for one in axes.lines if len(one.get_xdata()) == 1}
    assert at[looks["lets_sam"].colour].get_xdata() == [0.05]
    figure.draw_without_rendering()
    edge = axes.transAxes.inverted().transform(
        at[looks["horizon_sam"].colour].get_transform().transform([[*at[looks["horizon_sam"].colour].get_xdata(), 90]])
    )
    assert 0.9 < edge[0][0] < 1  # of the panel's width


def test_starts_of_rules_without_one_are_no_figure_over_starts(tmp_path):
    for rho in (0.05, 0.1):
        make_run(tmp_path, method="horizon_sam", rho=rho, rho_start=None)
    made, looks = sheet(tmp_path)
    assert sensitivity.over_start(made, looks) is None
    assert [column.label for column in made.columns] == [
        "Horizon-SAM (unused ρ = 0.05)",
        "Horizon-SAM (unused ρ = 0.1)",
    ]


def pixels(axes, *values):
    """Heights on a screen of 100 dots an inch."""
    axes.figure.set_dpi(100)
    axes.figure.draw_without_rendering()
    return axes.transData.transform([[axes.get_xlim()[0], value] for value in values])[:, 1]


@pytest.mark.parametrize("score", ["accuracy", "mse"])
def test_bands_are_told_apart_wherever_a_bad_radius_lies(tmp_path, score):
    """A fixed ρ that learned nothing (at 10 % of a thousand, or a hundred times the error) leaves them no room."""
    settings = {"score": score, "columns": REGRESSION} if score == "mse" else {}
    unit, bad = (100, 0.1) if score == "accuracy" else (1, 90.0)
    for rho, value in {0.05: 0.93, 0.1: 0.935, 2.0: bad}.items():
        make_run(tmp_path, rho=rho, accuracy=value, **settings)
    for place, method in enumerate(("lets_sam", "gm_sam", "ramp_sam")):
        make_run(tmp_path, method=method, accuracy=0.94 + 0.005 * place, **settings)
    figure = sensitivity.over_fixed_radius(*sheet(tmp_path))
    [axes] = figure.axes
    low, middle, high = pixels(axes, 94 / 100 * unit, 94.5 / 100 * unit, 95 / 100 * unit)
    assert min(middle - low, high - middle) > 15  # of about 300; on a plain axis they were 2 apart, and 0.02
    bottom, top = axes.get_ylim()
    assert bottom < bad * unit < top
    assert [text.get_text() for text in figure.texts][-1] == "On grey, heights are drawn closer together."


def test_an_axis_that_shows_all_of_it_stays_plain(tmp_path):
    for rho, value in {0.05: 0.7, 0.1: 0.8}.items():
        make_run(tmp_path, rho=rho, accuracy=value)
    make_run(tmp_path, method="lets_sam", accuracy=0.9)
    figure = sensitivity.over_fixed_radius(*sheet(tmp_path))
    assert figure.axes[0].get_yscale() == "linear"
    assert [text.get_text() for text in figure.texts if text is not figure._suptitle] == []


def test_markers_on_one_start_stand_side_by_side(tmp_path):
    for rho in (0.05, 0.1):
        make_run(tmp_path, rho=rho)
    for method in ("lets_sam", "gm_sam", "ramp_sam"):
        make_run(tmp_path, method=method, accuracy=0.9)
    [axes] = sensitivity.over_fixed_radius(*sheet(tmp_path)).axes
    starts = sorted(line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1)
    assert len(set(starts)) == 3
    assert starts[1] == pytest.approx(0.05)
    assert starts[0] > 0.045 and starts[2] < 0.055


def test_errors_are_drawn_as_they_are_and_named(tmp_path):
    runs = [make_run(tmp_path, score="mse", accuracy=0.5, columns=REGRESSION, seed=seed) for seed in range(2)]
    above, below = trajectories.score_and_loss(*sheet(tmp_path)).axes
    measured = [[float(r.split(",")[6]) for r in (d / "epochs.csv").read_text().splitlines()[1:]] for d in runs]
    assert above.lines[0].get_ydata() == pytest.approx(np.mean(measured, 0))
    assert (above.get_ylabel(), below.get_ylabel()) == ("validation mse", "validation loss")
    assert above.yaxis.get_major_formatter()(0.5) != "0.5 %"


def test_bands_of_one_method_are_told_apart_by_their_settings(tmp_path):
    for rho in (0.05, 0.1):
        make_run(tmp_path, rho=rho)
    for number, budget in enumerate((0.1, 0.2, 0.4)):
        extra = {"radius.budget": budget}
        make_run(tmp_path, method="horizon_sam", rho_start=None, extra=extra, accuracy=0.9 + 0.01 * number)
        make_run(tmp_path, method="horizon_sam", rho_start=None, extra=extra, noise=0.4, accuracy=0.8)
    figure = sensitivity.over_fixed_radius(*sheet(tmp_path))
    [axes] = figure.axes
    assert len({patch.get_facecolor() for patch in axes.patches}) == len(axes.patches) == 3
    names = [text.get_text() for text in figure.legends[0].texts]
    assert names[1:] == [f"Horizon-SAM (radius.budget = {budget}), no start" for budget in (0.1, 0.2, 0.4)]
