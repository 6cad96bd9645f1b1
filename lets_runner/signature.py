"""Settings of a component against the annotations of its constructor, which are its schema.

Values are those of a configuration: null, booleans, numbers, strings, lists, mappings. What an annotation says of any
other type is left to the constructor, and so is every range.
"""

import inspect
import math
import pkgutil
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

LARGEST = 2**63 - 1  # what 64 bits hold, in torch, NumPy and the stores of most trackers
SCALARS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a word", type(None): "null"}
CONTAINERS = (list, tuple, Sequence, Iterable, dict, Mapping)
PLAIN = {"None": "null", "True": "true", "False": "false"}  # what Python calls something, and the command line


def check_settings(target: str, settings: Mapping[str, Any]) -> None:
    """That each setting has the type that the constructor of `target`, or of a class above it, gives it.

    Numbers must be finite, but for those in lists: an interval may be open. A target that is not there passes: who
    instantiates it says so.

    Raises:
        ValueError: the first that has not, as in `width=wide: must be a whole number`.
    """
    hints = annotations(target)
    for name, value in settings.items():
        shown = f"{name}={PLAIN.get(str(value), value)}"
        if isinstance(value, int) and abs(value) > LARGEST:
            raise ValueError(f"{shown}: is too large; the largest number is {LARGEST}")
        if not _fits(value, hints.get(name, Any)):
            raise ValueError(f"{shown}: must be {' or '.join(_words(hints[name]))}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{shown}: must be a finite number")


def annotations(target: str) -> dict[str, Any]:
    """What is annotated of the arguments of a function, or of the constructors of a class and of those above it."""
    try:
        component = pkgutil.resolve_name(":".join(target.rsplit(".", 1)))
    except (ImportError, AttributeError, ValueError):
        return {}
    functions = [component]
    if isinstance(component, type):
        functions = [vars(cls)["__init__"] for cls in reversed(component.__mro__) if "__init__" in vars(cls)]
    return {name: hint for function in functions for name, hint in _hints(inspect.unwrap(function)).items()}


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        alone = type("Alone", (), {"__annotations__": {name: hint}})
        try:
            found |= typing.get_type_hints(alone, globalns=getattr(function, "__globals__", {}))
        except (NameError, AttributeError, TypeError, SyntaxError):  # written for type checkers alone
            continue
    return found


def _fits(value: Any, hint: Any, *, in_list: bool = False) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if isinstance(value, Mapping) and "_target_" in value:
        return True  # whatever it is made into
    if origin in (Union, types.UnionType):
        known = [kind for kind in inner if _is_known(kind)]
        return any(_fits(value, kind, in_list=in_list) for kind in known or inner)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in inner)
    if hint is float:
        return type(value) is int or (
            type(value) is float and not math.isnan(value) and (in_list or abs(value) < math.inf)
        )
    if hint in SCALARS:
        return type(value) is hint
    if _is_known(hint):
        return isinstance(value, Mapping) if issubclass(origin or hint, Mapping) else _are_elements(value, hint)
    return True


def _is_known(hint: Any) -> bool:
    """Whether it is an annotation to go by: a scalar, a choice, a list or a mapping."""
    kind = get_origin(hint) or hint
    return kind in SCALARS or kind is Literal or kind in CONTAINERS


def _are_elements(values: Any, hint: Any) -> bool:
    inner = get_args(hint)
    if not isinstance(values, list):
        return False
    if get_origin(hint) is tuple and inner[-1:] != (Ellipsis,):
        return len(values) == len(inner) and all(_fits(*pair, in_list=True) for pair in zip(values, inner, strict=True))
    return not inner or all(_fits(value, inner[0], in_list=True) for value in values)


def _words(hint: Any) -> list[str]:
    """What fits, in words."""
    if get_origin(hint) in (Union, types.UnionType):
        return list(dict.fromkeys(word for kind in get_args(hint) if _is_known(kind) for word in _words(kind)))
    if get_origin(hint) is Literal:
        choices = [str(choice) for choice in get_args(hint)]
        return [f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]]
    if hint in SCALARS:
        return [SCALARS[hint]]
    if issubclass(kind := get_origin(hint) or hint, Mapping):
        return ["a mapping"]
    of_so_many = kind is tuple and get_args(hint)[-1:] != (Ellipsis,)
    return [f"a list of {len(get_args(hint))}" if of_so_many else "a list"]
