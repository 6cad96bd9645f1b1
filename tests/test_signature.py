"""Settings against annotations: what fits, and what is said of what does not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from lets_runner.signature import annotations, check_settings

INF, NAN = float("inf"), float("nan")


class Base:
    def __init__(self, *, number: float = 0.0, switch: bool = False):
        pass


class Component(Base):
    def __init__(
        self,
        count: int = 1,
        *,
        share: float | None = None,
        workers: int | str = "auto",
        choice: Literal["one", "two"] = "one",
        rate: float | torch.Tensor = 1.0,
        bounds: tuple[float, float] | None = None,
        points: Sequence[Sequence[float]] = (),
        names: str | Sequence[str] = (),
        table: dict[str, Any] | None = None,
        where: Path = Path(),
        later: "Unknown" = None,  # noqa: F821
        bare=None,
        **settings: Any,
    ):
        super().__init__(**settings)


COMPONENT = f"{__name__}.Component"
FITS = {
    "count": [1, -3, 2**63 - 1],
    "share": [None, 0, 0.5],
    "workers": ["auto", 3],
    "choice": ["one", "two"],
    "rate": [0.1, 1, {"_target_": "torch.tensor"}],
    "bounds": [None, [0, 1], [0.0, INF]],
    "points": [[], [[0, 1], [0.5, 2.0]]],
    "names": ["a", ["a", "b"]],
    "table": [None, {}, {"a": 1}],
    "where": ["here", 3],  # the constructor's affair
    "later": ["anything", 1],
    "bare": ["anything", True, 1.5, None],
    "number": [1, 0.5],
    "switch": [True, False],
    "unknown": ["anything"],
}
NUMBER, WHOLE = "a finite number", "a whole number"
REFUSED = [
    ("count", True, WHOLE),
    ("count", 1.0, WHOLE),
    ("count", "1", WHOLE),
    ("count", None, WHOLE),
    ("share", "half", f"{NUMBER} or null"),
    ("share", False, f"{NUMBER} or null"),
    ("share", NAN, f"{NUMBER} or null"),
    ("share", -INF, f"{NUMBER} or null"),
    ("workers", True, f"{WHOLE} or a word"),
    ("choice", "three", "one of one, two"),
    ("choice", None, "one of one, two"),
    ("rate", "fast", NUMBER),
    ("rate", [0.1], NUMBER),
    ("bounds", [0], "a list of 2 or null"),
    ("bounds", [0, 1, 2], "a list of 2 or null"),
    ("bounds", [0, NAN], "a list of 2 or null"),
    ("bounds", [0, "much"], "a list of 2 or null"),
    ("bounds", 0.5, "a list of 2 or null"),
    ("points", [[0, True]], "a list"),
    ("points", [0, 1], "a list"),
    ("names", [1], "a word or a list"),
    ("table", [1], "a mapping or null"),
    ("table", "a", "a mapping or null"),
    ("bare", NAN, NUMBER),
    ("unknown", INF, NUMBER),
    ("number", True, NUMBER),
    ("switch", 1, "true or false"),
    ("switch", None, "true or false"),
]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in FITS.items() for value in values], ids=str
)
def test_what_fits_is_let_through(name, value):
    check_settings(COMPONENT, {name: value})


@pytest.mark.parametrize(("name", "value", "words"), REFUSED, ids=str)
def test_what_does_not_is_named_with_what_would(name, value, words):
    with pytest.raises(ValueError) as caught:
        check_settings(COMPONENT, {name: value})
    shown = {"None": "null", "True": "true", "False": "false"}.get(str(value), value)
    assert str(caught.value) == f"{name}={shown}: must be {words}"


@pytest.mark.parametrize("name", ["count", "share", "bare"])
def test_numbers_fit_into_64_bits(name):
    with pytest.raises(ValueError, match=rf"{name}={2**63}: is too large; the largest number is {2**63 - 1}"):
        check_settings(COMPONENT, {name: 2**63})


def test_functions_and_what_torch_annotates_are_read_too():
    for component, name in [
        ("torch.optim.SGD", "lr"),
        ("torch.optim.AdamW", "weight_decay"),
        ("torch.optim.lr_scheduler.MultiStepLR", "gamma"),
        ("lets_runner.SAM", "rho"),
        ("lets_runner.LETS", "gap_ema"),
    ]:
        check_settings(component, {name: 0.5})
        with pytest.raises(ValueError, match=f"{name}=fast: must be a finite number"):
            check_settings(component, {name: "fast"})
    with pytest.raises(ValueError, match=r"depth=1\.5: must be a whole number"):
        check_settings("lets_runner.models.vit", {"depth": 1.5})


def test_what_is_not_there_is_left_to_whoever_instantiates_it():
    for target in ("lets_runner.models.Nothing", "nowhere.Nothing", "nothing", ""):
        assert annotations(target) == {}
        check_settings(target, {"depth": 1.5})  # raises nothing
