"""`index.html`: the whole report in one file that asks for nothing from anywhere."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.markers import MarkerStyle

from lets_runner.report.figures import Picture
from lets_runner.report.grid import Column, Grid
from lets_runner.report.methods import Style
from lets_runner.report.runs import STATES, Found
from lets_runner.report.tables import Table

MARKER = 6  # size on a drawing of 16 × 16
WIDE = 8.5  # inches of a figure that gets the whole width
DOTS = 84  # of the screen for an inch of a figure, so that its small print can be read


@dataclass(frozen=True)
class Choice:
    """A method that the page can hide: its word, its name, and its marker as an SVG path."""

    word: str
    name: str
    colour: str
    outline: str


def page(
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    grid: Grid,
    styles: dict[str, Style],
    found: Found,
) -> str:
    """The page as text; everything from a run directory is escaped on its way into it."""
    templates = Environment(
        loader=PackageLoader("lets_runner.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (_own(templates, name) for name in ("page.css", "page.js"))
    return templates.get_template("page.html.jinja").render(
        tables=tables,
        pictures=[(picture, _data_uri(picture), round(DOTS * picture.width)) for picture in pictures],
        wide=round(DOTS * WIDE),
        data=list(dict.fromkeys(cell.row.data for cell in grid.cells)),
        methods=_choices(grid.columns, styles),
        found=found,
        states=[(state, found.of(state)) for state in STATES if found.of(state)],
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _choices(columns: Iterable[Column], styles: dict[str, Style]) -> list[Choice]:
    names = {column.method.word: column.name for column in columns}
    return [Choice(word, name, styles[word].colour, _outline(styles[word].marker)) for word, name in names.items()]


def _outline(marker: str) -> str:
    """The figures' marker as the path of an SVG."""
    style = MarkerStyle(marker)
    path = style.get_path().transformed(style.get_transform())
    polygons = [np.asarray(polygon) for polygon in path.to_polygons()]
    size = MARKER / max(np.abs(polygon).max() for polygon in polygons)
    points = [[f"{8 + size * x:.2f} {8 - size * y:.2f}" for x, y in polygon] for polygon in polygons]
    return " ".join(f"M{'L'.join(polygon)}Z" for polygon in points)


def _own(templates: Environment, name: str) -> Markup:
    """A file of this package as it is: the policy of the page names its hash."""
    assert templates.loader is not None
    return Markup(templates.loader.get_source(templates, name)[0])


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data_uri(picture: Picture) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.path.read_bytes()).decode()
