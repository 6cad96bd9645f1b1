"""Rows, columns and labels; what is and is not averaged."""

import pytest
from made import REGRESSION, make_run

from lets_runner.report.grid import grid
from lets_runner.report.runs import find


def made(path):
    return grid(find([path]).runs)


def columns(path):
    return [column.label for column in made(path).columns]


def test_seeds_share_a_cell_and_configurations_never_do(tmp_path):
    for seed in range(3):
        make_run(tmp_path, seed=seed, accuracy=0.5)
        make_run(tmp_path, seed=seed, accuracy=0.7, extra={"optimizer.momentum": 0.8})
    cells = made(tmp_path).cells
    assert sorted((cell.column.label, cell.scores("test").tolist()) for cell in cells) == [
        ("SAM (optimizer.momentum = 0.8)", pytest.approx([70] * 3)),
        ("SAM (optimizer.momentum = 0.9)", pytest.approx([50] * 3)),
    ]


def test_a_grid_over_rho_and_lr_shows_in_the_columns_in_order(tmp_path):
    for rho in (0.5, 0.05, 0.1):
        make_run(tmp_path, rho=rho)
        make_run(tmp_path, rho=rho, method="lets_sam", extra={"optimizer.lr": 0.1})
    make_run(tmp_path, method="lets_sam")
    make_run(tmp_path, method="erm")
    assert columns(tmp_path) == [
        "ERM (lr = 0.05)",
        "SAM (lr = 0.05, ρ = 0.05)",
        "SAM (lr = 0.05, ρ = 0.1)",
        "SAM (lr = 0.05, ρ = 0.5)",
        "LETS-SAM (lr = 0.05, ρ₀ = 0.05)",
        "LETS-SAM (lr = 0.1, ρ₀ = 0.05)",
        "LETS-SAM (lr = 0.1, ρ₀ = 0.1)",
        "LETS-SAM (lr = 0.1, ρ₀ = 0.5)",
    ]


def test_settings_that_differ_between_rows_alone_are_not_told(tmp_path):
    make_run(tmp_path, data="digits", rho=0.05)
    make_run(tmp_path, data="cifar10", rho=0.1)
    assert columns(tmp_path) == ["SAM"]


def test_settings_that_differ_in_one_row_are_told_in_all(tmp_path):
    make_run(tmp_path, data="digits", rho=0.05)
    make_run(tmp_path, data="cifar10", rho=0.05)
    make_run(tmp_path, data="cifar10", rho=0.1)
    assert columns(tmp_path) == ["SAM (ρ = 0.05)", "SAM (ρ = 0.1)"]


def test_what_follows_from_the_epochs_is_not_told_beside_them(tmp_path):
    make_run(tmp_path, method="lets_sam", epochs=2)
    make_run(tmp_path, method="lets_sam", epochs=4)
    assert columns(tmp_path) == ["LETS-SAM (epochs = 2)", "LETS-SAM (epochs = 4)"]


def test_what_repeats_the_radius_is_not_told_in_its_place(tmp_path):
    for rho in (0.05, 0.1):
        make_run(tmp_path, rho=rho, extra={"radius.end": rho})
    assert columns(tmp_path) == ["SAM (ρ = 0.05)", "SAM (ρ = 0.1)"]


def test_settings_of_data_and_model_are_told_in_the_rows(tmp_path):
    for norm in (False, True):
        make_run(tmp_path, extra={"model.batch_norm": norm, "data.val_fraction": 0.2 if norm else 0.1})
    rows = made(tmp_path).rows
    assert [(row.data, row.model) for row in rows] == [
        ("digits (val_fraction = 0.1)", "convnet (batch_norm = false)"),
        ("digits (val_fraction = 0.2)", "convnet (batch_norm = true)"),
    ]
    assert columns(tmp_path) == ["SAM"]


def test_kinds_of_noise_are_rows_of_their_own(tmp_path):
    make_run(tmp_path, noise=0.4)
    make_run(tmp_path, noise=0.2)
    make_run(tmp_path, noise=0.4, extra={"data.noise": "asymmetric"})
    assert [row.label for row in made(tmp_path).rows] == ["40 % asymmetric", "20 %", "40 %"]


def test_configurations_that_look_alike_are_numbered(tmp_path):
    make_run(tmp_path)
    other = make_run(tmp_path, seed=1)
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text("# " + "f" * 64 + text[text.index("\n") :])
    assert columns(tmp_path) == ["SAM (configuration = 1 of 2)", "SAM (configuration = 2 of 2)"]


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({"epochs": 10}, "epochs = {}"),
        ({"extra": {"optimizer.lr": 0.2}}, "lr = {}"),
        ({"extra": {"batch_size": 128}}, "batch_size = {}"),
        ({"extra": {"optimizer.weight_decay": 0.5}}, "optimizer.weight_decay = {}"),
        ({"extra": {"task.label_smoothing": 0.1}}, "task.label_smoothing = {}"),
    ],
)
def test_what_differs_between_methods_is_told_in_both(tmp_path, settings, label):
    """Beside the method: its epochs, say; an unequal training is never compared in silence."""
    make_run(tmp_path, method="erm")
    make_run(tmp_path, method="lets_sam", **settings)
    [value] = (settings.get("extra") or settings).values()
    before = {"epochs": 3, "lr": 0.05, "batch_size": 64}.get(label.split(" ")[0], "–")
    assert columns(tmp_path) == [f"ERM ({label.format(before)})", f"LETS-SAM ({label.format(value)})"]


def test_what_differs_and_repeats_the_radius_by_chance_is_told(tmp_path):
    make_run(tmp_path, method="sam", rho=0.1, extra={"optimizer.lr": 0.1})
    make_run(tmp_path, method="asam", rho=0.2, extra={"optimizer.lr": 0.2})
    assert columns(tmp_path) == ["SAM (lr = 0.1)", "ASAM (lr = 0.2)"]


def test_what_makes_the_method_is_not_told_between_methods(tmp_path):
    make_run(tmp_path, method="sam", rho=0.05)
    make_run(tmp_path, method="asam", rho=0.5)
    make_run(tmp_path, method="lets_paper_sam", rho=0.1)
    assert columns(tmp_path) == ["SAM", "ASAM", "LETS-paper-SAM"]


def test_tasks_of_other_scores_are_rows_and_tables_of_their_own(tmp_path):
    make_run(tmp_path)
    make_run(tmp_path, score="mse", accuracy=0.3, columns=REGRESSION, extra={"task._target_": "mine.Brier"})
    one = made(tmp_path)
    assert [row.measured.selects for row in one.rows] == ["accuracy", "mse"]
    assert columns(tmp_path) == ["SAM"]
    assert [len(part.cells) for part in one.parts()] == [1, 1] == [len(task.cells) for task in one.tasks()]
