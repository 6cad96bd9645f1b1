"""GLUE's table: a line a method, a column a task, and averages that are seed by seed; and runs of translation."""

import numpy as np
import pytest
from made import ALL, make_run

from lets_runner.report.command import main

SCORES = {"cola": "mcc", "sst2": "accuracy", "stsb": "pearson"}
TRANSLATION = [
    {"name": "loss", "unit": "nats", "better": "lower", "when": ALL, "selects": True},
    {"name": "perplexity", "unit": "", "better": "lower", "when": ALL, "selects": False},
    {"name": "bleu", "unit": "", "better": "higher", "when": ["test"], "selects": False},
]


def glue_run(root, task, method, seed, score, **settings):
    extra = {"data._target_": "lets_runner.data.GLUE", "data.task": task, **settings}
    make_run(
        root, data="glue", model="deberta", method=method, seed=seed, accuracy=score, score=SCORES[task], extra=extra
    )


def table_of(tmp_path, title):
    """Cells of one of the report's tables, a list a line; None if it is not there."""
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "report")])
    text = (tmp_path / "report" / "table.md").read_text()
    if f"## {title}\n" not in text:
        return None
    block = text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in block.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def made(tmp_path, methods=("erm", "sam")):
    rng = np.random.default_rng(0)
    scores = {}
    for method in methods:
        for seed in range(3):
            for task in SCORES:
                scores[method, task, seed] = score = round(float(rng.uniform(0.5, 0.9)), 4)
                glue_run(tmp_path / "runs", task, method, seed, score)
    return scores


def test_the_average_is_over_tasks_seed_by_seed(tmp_path):
    scores = made(tmp_path)
    heads, _, *lines = table_of(tmp_path, "GLUE")
    assert heads == ["method", "CoLA, mcc", "SST-2, accuracy", "STS-B, pearson", "average"]
    assert [line[0] for line in lines] == ["ERM", "SAM"]
    for line, method in zip(lines, ("erm", "sam"), strict=True):
        found = 100 * np.array([[scores[method, task, seed] for task in SCORES] for seed in range(3)])
        for cell, values in zip(line[1:], [*found.T, found.mean(1)], strict=True):
            plain = cell.replace("*", "").replace("†", "")
            assert plain == f"{values.mean():.2f} ± {values.std(ddof=1):.2f} (3)"
    means = [float(line[-1].strip("*").split(" ±")[0]) for line in lines]
    assert [line[-1].startswith("**") for line in lines] == [mean == max(means) for mean in means]


def test_a_method_that_lacks_a_task_has_no_average_and_a_seed_that_does_is_not_in_it(tmp_path):
    scores = made(tmp_path, ["sam"])
    glue_run(tmp_path / "runs", "cola", "erm", 0, 0.6)
    glue_run(tmp_path / "runs", "cola", "sam", 3, 0.6)
    _, _, erm, sam = table_of(tmp_path, "GLUE")
    assert erm[2:] == ["–", "–", "–"] and erm[1].endswith("60.00 (1)")
    mean = 100 * np.mean([scores["sam", task, seed] for task in SCORES for seed in range(3)])
    assert f"{mean:.2f} ±" in sam[-1] and sam[-1].endswith("(3)") and sam[1].endswith("(4)")


def test_recipes_that_differ_from_task_to_task_are_one_line(tmp_path):
    for task, epochs in {"cola": 6, "sst2": 3}.items():
        for seed in range(2):
            glue_run(tmp_path / "runs", task, "sam", seed, 0.5, epochs=epochs, **{"model.dropout": epochs / 10})
    assert len(table_of(tmp_path, "GLUE")) == 3


def test_one_task_alone_or_one_in_two_ways_makes_no_table(tmp_path):
    for seed in range(2):
        glue_run(tmp_path / "runs", "cola", "sam", seed, 0.5)
    assert table_of(tmp_path, "GLUE") is None
    glue_run(tmp_path / "runs", "sst2", "sam", 0, 0.5)
    assert len(table_of(tmp_path, "GLUE")) == 3
    glue_run(tmp_path / "runs", "sst2", "sam", 0, 0.5, **{"data.max_length": 64})
    assert table_of(tmp_path, "GLUE") is None


def test_of_translations_the_loss_selects_and_the_lowest_is_the_best(tmp_path):
    for method, loss, bleu in (("erm", 3.5, 11.0), ("sam", 3.25, 9.0)):
        for seed in range(2):
            values = {"test_loss": loss + 0.01 * seed, "test_perplexity": np.exp(loss), "val_perplexity": 30.0}
            values |= {"train_perplexity": 20.0, "val_loss": 3.4, "train_loss": 3.0}
            make_run(
                tmp_path / "runs",
                data="iwslt14",
                model="transformer",
                method=method,
                seed=seed,
                accuracy=bleu,
                score="bleu",
                columns=TRANSLATION,
                **values,
            )
    heads, _, line = table_of(tmp_path, "Test loss in nats")
    assert line[-2:] == ["3.505 ± 0.007071 (2)", "**3.255 ± 0.007071** (2)"]
    heads, _, erm, sam = table_of(tmp_path, "Test scores beside loss")
    assert heads[-2:] == ["test perplexity", "test bleu"]
    assert (erm[-1], sam[-1]) == ("11 ± 0", "9 ± 0")


@pytest.mark.parametrize("task", ["imdb", None])
def test_what_is_no_task_of_glues_is_in_no_such_table(tmp_path, task):
    for number, name in enumerate((task, "other")):
        extra = {"data._target_": "lets_runner.data.GLUE", "data.task": name}
        make_run(tmp_path / "runs", data="glue", seed=number, extra=extra)
    assert table_of(tmp_path, "GLUE") is None
