r"""The report's tables in LaTeX; a document needs \usepackage{booktabs,graphicx}."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from lets_runner.report.tables import Entry, Table

MOST_LINES = 40  # of a table that fits on a page
# What is too wide for the text shrinks to its width; what is not stays as it is.
FITTED = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}"
ESCAPES = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",  # after a line's \\ it would begin an argument
        "]": "{]}",
        "ρ": r"$\rho$",
        "λ": r"$\lambda$",
        "₀": "$_0$",
        "₁": "$_1$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "−": "$-$",
        "–": "--",
        "†": r"$^\dagger$",
        "\n": " ",
    }
)


def latex(tables: Iterable[Table], left_out: Sequence[str]) -> str:
    """Every table as a float of its own, or several where it is long.

    The first line of `left_out` goes under the first table; the others, which name many directories, are a float too.
    """
    first, *others = tables
    floats = [*_floats(first, [*first.notes, *left_out[:1]])]
    for table in others:
        floats += _floats(table, table.notes)
    if named := left_out[1:]:
        floats.append("\n".join([r"\begin{table}", *map(_note, named), r"\end{table}"]) + "\n")
    return "% needs \\usepackage{booktabs,graphicx}\n" + "\n".join(floats)


def _floats(table: Table, notes: Iterable[str]) -> list[str]:
    """A page holds `MOST_LINES`; the notes follow the last of them."""
    parts = [table.lines[start : start + MOST_LINES] for start in range(0, len(table.lines), MOST_LINES)]
    *before, last = [
        replace(
            table,
            name=table.name + (f"-{number}" if number > 1 else ""),
            title=table.title + (f" ({number} of {len(parts)})" if len(parts) > 1 else ""),
            lines=lines,
        )
        for number, lines in enumerate(parts, start=1)
    ]
    return [*(_float(part, ()) for part in before), _float(last, notes)]


def _float(table: Table, notes: Iterable[str]) -> str:
    columns = "".join("r" if head.numeric else "l" for head in table.heads)
    heads = " & ".join(_escaped(head.text) for head in table.heads)
    rows = [" & ".join(map(_entry, line.entries)) + r" \\" for line in table.lines]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(table.title)}}}",
        rf"\label{{tab:{table.name}}}",
        r"\footnotesize",
        rf"{FITTED}{{\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rf"{heads} \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}}",
        *map(_note, notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _note(text: str) -> str:
    return rf"\par\smallskip\footnotesize {_escaped(text)}"


def _entry(entry: Entry) -> str:
    text = _escaped(entry.text)
    text = {"best": rf"\textbf{{{text}}}", "close": rf"{text}$^\dagger$"}.get(entry.mark, text)
    return f"{text} {entry.detail}".rstrip()


def _escaped(text: str) -> str:
    return text.translate(ESCAPES)
