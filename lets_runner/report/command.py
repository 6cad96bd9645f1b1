"""`lets-report`: run directories in, tables, figures and a page out."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lets_runner.console import complain, say
from lets_runner.report.foreign import printable
from lets_runner.report.runs import Found, find

NAMED = 20  # directories that a table names under it


class Parser(argparse.ArgumentParser):
    """One that complains in a line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script; exits with 2 and one line on standard error where there is nothing to report."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    try:
        found = find(asked.paths)
        if not found.runs:
            where = ", ".join(map(str, asked.paths))
            parser.exit(2, f"{parser.prog}: no finished run under {where} ({found.counts}); lets-train makes some\n")
        _select(parser, found, asked)
        written = report(found, asked.out, asked.figure)
    except OSError as error:
        parser.exit(2, f"{parser.prog}: {' '.join(str(error).split())}\n")
    say(printable(f"{found.counts}; {', '.join(written)} in {asked.out}"), program=parser.prog)


def _select(parser: Parser, found: Found, asked: argparse.Namespace) -> None:
    """Leave the runs that are asked for, and see that there are the figures; ends with one line where not."""
    from lets_runner.report.figures import outside
    from lets_runner.report.selection import Condition, fold, only

    try:
        only(found, map(Condition.parse, asked.where))
        kinds = [outside(word)[0] for word in asked.figure]
        if len(kinds) > len({*kinds}):
            raise ValueError("--figure: two of the same name; give one of the functions another")
    except ValueError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    fold(found)


def _parser() -> Parser:
    parser = Parser(
        prog="lets-report",
        description="Turn run directories of lets-train into tables (Markdown, LaTeX, csv), figures (PNG, PDF) and one "
        "self-contained page. Scores are those on the test set after the last epoch, mean and standard deviation over "
        "seeds; runs of different configurations are never averaged together, and what differs between columns is "
        "told; of a search the best by validation is shown; directories that do not count are counted and named.",
        epilog="example: lets-report runs/ --where epochs=40 --where method=erm,sam --out report",
    )
    parser.add_argument("paths", metavar="PATH", type=Path, nargs="+", help="searched for run directories")
    parser.add_argument("--out", metavar="DIRECTORY", type=Path, default=Path("report"), help="default: report")
    parser.add_argument(
        "--where",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="only runs with this setting, or one of several: epochs=40, method=sam,asam; may be given several times",
    )
    parser.add_argument(
        "--figure",
        metavar="MODULE:FUNCTION",
        action="append",
        default=[],
        help="a figure of your own beside the others: a function (grid, styles) in an importable module that returns "
        "a Matplotlib figure, or None where there is nothing to draw",
    )
    return parser


def report(found: Found, out: Path, figures: Sequence[str] = ()) -> list[str]:
    """Write everything into `out`, with `figures` beside those there are; returns what, in words."""
    from lets_runner.report.figures import Picture, draw
    from lets_runner.report.glue import benchmark
    from lets_runner.report.grid import grid
    from lets_runner.report.latex import latex
    from lets_runner.report.markdown import markdown
    from lets_runner.report.methods import styles
    from lets_runner.report.page import page
    from lets_runner.report.spreadsheet import cells_csv, directories_csv, robustness_csv, sharpness_csv
    from lets_runner.report.tables import left_out, tables

    sorted_runs = grid(found.runs)
    looks = styles(column.method.word for column in sorted_runs.columns)
    out.mkdir(parents=True, exist_ok=True)
    drawn = draw(sorted_runs, looks, out / "figures", figures)
    made = [*filter(None, [benchmark(sorted_runs)]), *tables(sorted_runs)]
    texts = {
        "table.md": markdown(made, left_out(found, most=NAMED)),
        "table.tex": latex(made, left_out(found, most=NAMED)),
        "table.csv": cells_csv(sorted_runs),
        "directories.csv": directories_csv(sorted_runs, found),
        **({"sharpness.csv": sharpness} if (sharpness := sharpness_csv(sorted_runs)) else {}),
        **({"robustness.csv": robustness} if (robustness := robustness_csv(sorted_runs)) else {}),
    }
    pictures = []
    for one in drawn:
        if isinstance(one, Picture):
            pictures.append(one)
        else:
            complain(printable(f"the figure {one.name} is not drawn ({one.reason})"), program="lets-report")
    pictures.sort(key=lambda picture: picture.path)
    texts["index.html"] = page(made, pictures, sorted_runs, looks, found)
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8", errors="replace")  # names of directories are any bytes
    return [*texts, f"{len(pictures)} figures"]


if __name__ == "__main__":
    main()
