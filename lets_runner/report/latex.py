r"""The report's tables in LaTeX; a document needs \usepackage{booktabs,graphicx}."""

from collections.abc import Iterable

from lets_runner.report.tables import Entry, Table

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


NO_WIDER = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"  # than the text


def latex(tables: Iterable[Table], left_out: Iterable[str]) -> str:
    """Every table as a float of its own; `left_out` goes under the first."""
    first, *others = tables
    floats = [_float(first, [*first.notes, *left_out]), *(_float(table, table.notes) for table in others)]
    return "% needs \\usepackage{booktabs,graphicx}\n" + "\n".join(floats)


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
        rf"{NO_WIDER}{{\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rf"{heads} \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}}",
        *(rf"\par\smallskip {_escaped(note)}" for note in notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _entry(entry: Entry) -> str:
    text = _escaped(entry.text)
    text = {"best": rf"\textbf{{{text}}}", "close": rf"{text}$^\dagger$"}.get(entry.mark, text)
    return f"{text} {entry.detail}".rstrip()


def _escaped(text: str) -> str:
    return text.translate(ESCAPES)
