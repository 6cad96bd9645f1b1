"""What a method is called in a report, where it stands among others, and its colour and marker.

All by rules over the run's own words and classes, so that a user's own variant is shown like any other.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any

# Okabe & Ito's colours, which colour-blind people tell apart, with gray for the yellow that white paper swallows; and
# Tol's wine and olive.
COLOURS = (
    *("#000000", "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#8C8C8C"),
    *("#882255", "#999933"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*")
# These have their colour and marker in every report; others take what is left.
PLACES = ("erm", "sam", "asam", "lets_sam", "lets_asam", "gm_sam", "gm_asam", "ramp_sam", "horizon_sam", "horizon_asam")


@dataclass(frozen=True, order=True)
class Method:
    """A method; sorts as in the paper's tables: without SAM, fixed radii, schedules, LETS, gap matching.

    Args:
        rank: (group, radius rule, variant) that the order goes by.
        word: as on the command line.
        name: for people.
        moves: whether the radius changes in training; `sam.rho` is where it starts then.
    """

    rank: tuple
    word: str
    name: str
    moves: bool


@dataclass(frozen=True)
class Style:
    colour: str
    marker: str


def method(word: str, settings: dict[str, Any]) -> Method:
    """The method that a run calls `word`, from the classes in its settings."""
    variant = _class(settings, "sam") or word
    if "sam.rho" not in settings:
        name = word.upper() if variant == "UnperturbedSAM" else variant
        return Method((0, "", 0, name), word, name, moves=False)
    rule = _class(settings, "radius")
    place = ("SAM", "ASAM").index(variant) if variant in ("SAM", "ASAM") else 2
    if rule in ("FixedRadius", ""):
        return Method((min(1 + place, 2), "", place, variant), word, variant, moves=False)
    head = _head(word, variant)
    group = 4 if head.startswith("lets") else 5 if head.startswith("gm") else 3
    return Method((group, head, place, variant), word, f"{_rule_name(head, rule)}-{variant}", moves=True)


def _class(settings: dict[str, Any], part: str) -> str:
    return str(settings.get(f"{part}._target_", "")).rsplit(".", 1)[-1]


def _head(word: str, variant: str) -> str:
    """The radius rule's part of a method's word: "lets_paper" of "lets_paper_ae_sam" with the variant AESAM."""
    parts = word.split("_")
    cut = next((i for i in range(1, len(parts)) if "".join(parts[i:]) == variant.lower()), 1)
    return "_".join(parts[:cut])


def _rule_name(head: str, rule: str) -> str:
    """LETS of "lets" and GM of "gm", the capitals of their classes; Loss-match of "loss_match"."""
    first, *rest = head.split("_")
    capitals = "".join(filter(str.isupper, rule))
    return "-".join([capitals if first == capitals.lower() else first.capitalize(), *rest])


def distinct(methods: Iterable[Method]) -> dict[str, str]:
    """A name for every word: two methods of the same classes (two presets of one variant) also show their words."""
    words = {method.word: method.name for method in methods}
    names = list(words.values())
    return {word: name if names.count(name) == 1 else f"{name} [{word}]" for word, name in words.items()}


def styles(words: Iterable[str]) -> dict[str, Style]:
    """Colour and marker of every method of a report, given in the order of its tables."""
    words = list(dict.fromkeys(words))
    taken = {PLACES.index(word) for word in words if word in PLACES}
    free = (place for place in count() if place not in taken)
    places = {word: PLACES.index(word) if word in PLACES else next(free) for word in words}
    return {word: Style(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]) for word, place in places.items()}
