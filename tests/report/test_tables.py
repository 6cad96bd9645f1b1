"""The tables in Markdown, LaTeX and csv."""

import csv
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from made import make_run

from lets_runner.report.grid import grid
from lets_runner.report.latex import latex
from lets_runner.report.markdown import markdown
from lets_runner.report.runs import find
from lets_runner.report.spreadsheet import cells_csv, directories_csv
from lets_runner.report.tables import left_out, tables

# method: test accuracies of the seeds
MADE = {"erm": [0.70, 0.71, 0.72], "sam": [0.90, 0.91, 0.92], "lets_sam": [0.905, 0.915, 0.901], "gm_sam": [0.95]}


@pytest.fixture
def found(tmp_path):
    for method, accuracies in MADE.items():
        for seed, accuracy in enumerate(accuracies):
            make_run(tmp_path, method=method, seed=seed, noise=0.4, accuracy=accuracy)
    make_run(tmp_path, method="sam", seed=7, status="failed", error="a|b <i>")
    return find([tmp_path])


def rows(text, title):
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:1] == "|"]


def test_markdown_says_what_the_numbers_are(found):
    text = markdown(tables(grid(found.runs)), left_out(found))
    head, _, line = rows(text, "Test accuracy in %")
    assert head == ["data", "model", "label noise", "ERM", "SAM", "LETS-SAM", "GM-SAM"]
    assert line == [
        "digits",
        "convnet",
        "40 %",
        "71.00 ± 1.00 (3)",
        "91.00 ± 1.00 (3)",
        "90.70 ± 0.72 (3)",
        "**95.00** (1)",
    ]
    assert "With one seed (1) there is no standard deviation and no test" in text
    assert "Directories: 10 finished, 1 failed." in text
    assert r"seed=7 (a\|b \<i\>)" in text


def test_markdown_marks_what_is_not_worse(found):
    runs = [run for run in found.runs if run.summary["method"] != "gm_sam"]
    text = markdown(tables(grid(runs)), [])
    assert rows(text, "Test accuracy in %")[2][4:] == ["**91.00 ± 1.00** (3)", "90.70 ± 0.72† (3)"]
    assert "no standard deviation" not in text


def test_cost_stands_beside(found):
    head, _, *lines = rows(markdown(tables(grid(found.runs)), []), "Cost")
    cost = dict(zip(head, lines[1], strict=True))
    assert cost == {
        **{"data": "digits", "model": "convnet", "label noise": "40 %", "method": "SAM", "seeds": "3"},
        **{"gradient evaluations": "102", "perturbed steps, %": "100", "seconds": "13.5 ± 1.0"},
        **{"peak memory, MiB": "512", "device": "cpu, 1 threads"},
    }


def test_sharpness_stands_beside_accuracy_where_it_was_probed(tmp_path):
    for seed, top in enumerate([10.0, 14.0]):
        directory = make_run(tmp_path, seed=seed, accuracy=0.8)
        (directory / "probe").mkdir()
        probe = {"hessian_eigenvalues": [top, 1.0], "hessian_trace": 100.0, "hessian_trace_error": 3.0}
        more = {"m_sharpness": {"0.1": 0.5, "0.05": 0.25}, "examples": 1000, "batch_norm": "eval"}
        (directory / "probe" / "probe.json").write_text(json.dumps(probe | more))
    make_run(tmp_path, seed=2, accuracy=0.1)
    make_run(tmp_path, method="erm")
    text = markdown(tables(grid(find([tmp_path]).runs)), [])
    head, _, line = rows(text, "Sharpness")
    assert dict(zip(head[3:], line[3:], strict=True)) == {
        **{"method": "SAM", "probed": "2", "test accuracy, %": "80.00", "λ₁": "12 ± 2.828", "trace": "100"},
        **{"its standard error": "3", "m-sharpness, ρ = 0.05": "0.25", "m-sharpness, ρ = 0.1": "0.5"},
        **{"measured on": "1000"},
    }
    assert "Batch norm in eval mode" in text


def test_sharpness_of_other_examples_or_another_ascent_is_not_averaged(tmp_path):
    plain = {"split": "train", "examples": 1000, "settings": {"sharpness": {"m": 128, "ascent_steps": 1}}}
    ways = [
        plain,
        plain,
        plain | {"split": "test"},
        plain | {"checkpoint": "best"},
        plain | {"settings": {"sharpness": {"m": 4, "ascent_steps": 5}}},
    ]
    for seed, way in enumerate(ways):
        directory = make_run(tmp_path, seed=seed)
        (directory / "probe").mkdir()
        (directory / "probe" / "probe.json").write_text(json.dumps(way | {"m_sharpness": {"0.1": float(seed)}}))
    _, _, *lines = rows(markdown(tables(grid(find([tmp_path]).runs)), []), "Sharpness")
    assert [(line[4], line[-2], line[-1]) for line in lines] == [
        ("2", "0.5 ± 0.707", "1000 train, m = 128"),
        ("1", "2", "1000 test, m = 128"),
        ("1", "3", "1000 train, best.pt, m = 128"),
        ("1", "4", "1000 train, m = 4, 5 steps of ascent"),
    ]


def test_many_methods_go_down_the_side(tmp_path):
    for number in range(12):
        for noise in (0.0, 0.2):
            make_run(tmp_path, rho=0.01 * (number + 1), noise=noise, accuracy=0.8 + number / 100)
    head, _, *lines = rows(markdown(tables(grid(find([tmp_path]).runs)), []), "Test accuracy in %")
    assert head == ["method", "digits, convnet, 0 %", "digits, convnet, 20 %"]
    assert len(lines) == 12
    assert lines[-1] == ["SAM (ρ = 0.12)", "**91.00** (1)", "**91.00** (1)"]


def test_latex_is_booktabs_and_escaped(found):
    text = latex(tables(grid(found.runs)), left_out(found))
    assert r"digits & convnet & 40 \% & 71.00 $\pm$ 1.00 (3)" in text
    assert r"\textbf{95.00} (1) \\" in text
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") == 2
    assert r"a\textbar{}b \textless{}i\textgreater{}" in text
    assert text.isascii()
    assert not re.search(r"(?<!\\)[%_#]", text.replace("% needs", "").replace("$_0$", ""))


@pytest.fixture
def large(tmp_path):
    """Tables wider than a page is, and longer: 9 columns of methods, 54 lines of cost, 20 names of what failed."""
    methods = ("erm", "sam", "asam", "ramp_sam", "lets_sam", "lets_asam", "gm_sam", "gm_asam", "lets_paper_sam")
    for method in methods:
        for noise in np.arange(6) / 10:
            device = "NVIDIA H100 80GB HBM3, of many"
            make_run(tmp_path / "runs", method=method, noise=float(noise), accuracy=0.5, processes=8, device=device)
    for seed in range(20):
        make_run(tmp_path / "runs", seed=seed, rho=0.7, status="failed", error="the loss is not finite at step 17")
    found = find([tmp_path / "runs"])
    return latex(tables(grid(found.runs)), left_out(found))


def test_latex_shrinks_what_is_wide_and_parts_what_is_long(large):
    assert large.count(r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{\begin{tabular}") == 3
    assert re.findall(r"caption\{(.*)\}", large) == [r"Test accuracy in \%", "Cost (1 of 2)", "Cost (2 of 2)"]
    assert re.findall(r"label\{(.*)\}", large) == ["tab:accuracy", "tab:cost", "tab:cost-2"]
    assert large.count("Seconds compare on one device only.") == 1
    assert large.startswith("% needs \\usepackage{booktabs,graphicx}\n")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_fits_the_page(large, tmp_path):
    head = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
    (tmp_path / "page.tex").write_text(f"{head}{large}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert not re.findall(r"Overfull.*|.*Float too large.*|.*undefined.*", done.stdout)


def test_csv_has_the_numbers_in_full(found):
    table = {row["method"]: row for row in csv.DictReader(io.StringIO(cells_csv(grid(found.runs))))}
    assert list(table) == ["erm", "sam", "lets_sam", "gm_sam"]
    for method, accuracies in MADE.items():
        row = table[method]
        assert int(row["seeds"]) == len(accuracies)
        assert float(row["test_accuracy_percent_mean"]) == pytest.approx(100 * np.mean(accuracies))
        if len(accuracies) > 1:
            assert float(row["test_accuracy_percent_sd"]) == pytest.approx(100 * np.std(accuracies, ddof=1))
    assert table["gm_sam"]["test_accuracy_percent_sd"] == ""
    assert [row["mark"] for row in table.values()] == ["", "", "", "best"]


def test_every_directory_is_named_once(found):
    table = list(csv.DictReader(io.StringIO(directories_csv(grid(found.runs), found))))
    assert len({row["directory"] for row in table}) == len(table) == 11
    [other] = [row for row in table if row["state"] != "finished"]
    assert (other["state"], other["reason"]) == ("failed", "a|b <i>")


def test_long_lists_are_cut_and_counted(tmp_path):
    make_run(tmp_path)
    for seed in range(15):
        make_run(tmp_path, method="asam", seed=seed, status="running")
        make_run(tmp_path, method="erm", seed=seed, status="failed")
    first, *lines = left_out(find([tmp_path]), most=20)
    assert first.startswith("Directories: 1 finished, 15 unfinished, 15 failed.")
    assert [line.count("seed=") for line in lines] == [15, 5]
    assert lines[1].endswith("; 10 more")
