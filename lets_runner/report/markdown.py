"""The report's tables in Markdown, as GitHub writes them."""

import re
from collections.abc import Iterable

from lets_runner.report.tables import Entry, Table


def markdown(tables: Iterable[Table], left_out: Iterable[str]) -> str:
    blocks = [f"## {table.title}\n\n{_grid(table)}\n\n{_paragraphs(table.notes)}" for table in tables]
    return "\n\n".join([*blocks, f"## Directories\n\n{_paragraphs(left_out)}"]) + "\n"


def _grid(table: Table) -> str:
    heads = [_escaped(head.text) for head in table.heads]
    rules = ["---:" if head.numeric else "---" for head in table.heads]
    rows = [heads, rules, *([_entry(entry) for entry in line.entries] for line in table.lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _entry(entry: Entry) -> str:
    text = _escaped(entry.text)
    text = {"best": f"**{text}**", "close": f"{text}†"}.get(entry.mark, text)
    return f"{text} {entry.detail}".rstrip()


def _paragraphs(texts: Iterable[str]) -> str:
    return "\n\n".join(map(_escaped, texts))


def _escaped(text: str) -> str:
    return re.sub(r"([\\|<>*`\[\]])", r"\\\1", text).replace("_", r"\_").replace("\n", " ")
