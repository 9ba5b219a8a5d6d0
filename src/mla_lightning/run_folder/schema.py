"""What a value may be: types with bounds, checked and described from annotations."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin


@dataclass(frozen=True)
class AtLeast:
    """A lower bound, included."""

    bound: float


@dataclass(frozen=True)
class Above:
    """A lower bound, excluded."""

    bound: float


#: Stands where an interpolation failed, so that its type is not reported as well.
UNRESOLVED = "<unresolved>"
Count = Annotated[int, AtLeast(1)]
Seconds = Annotated[float, Above(0)]


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value may be given where a type is expected.

    Args:
        value: A value as YAML holds it; a node that names a class fits any type.
        hint: A type annotation; what is not understood fits everything.

    Returns:
        True unless the value is surely wrong. An int is a float, a bool is neither.
    """
    if hint is Any or value == UNRESOLVED:
        return True
    if hint is None or hint is type(None):
        return value is None
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is Annotated:
        return fits(value, arguments[0]) and all(_within(value, bound) for bound in arguments[1:])
    if origin is Literal:
        return any(value == known and type(value) is type(known) for known in arguments)
    if isinstance(value, Mapping) and "_target_" in value:
        return True
    if hint in (bool, int, str):
        return type(value) is hint
    if hint is float:
        return type(value) in (int, float)
    if hint is Path:
        return isinstance(value, str)
    kind = origin or hint
    if not isinstance(kind, type):
        return True
    if issubclass(kind, Mapping):
        item = arguments[1] if len(arguments) == 2 else Any
        return isinstance(value, Mapping) and all(fits(entry, item) for entry in value.values())
    if issubclass(kind, Sequence):
        item = next((argument for argument in arguments if argument is not Ellipsis), Any)
        return isinstance(value, list | tuple) and all(fits(entry, item) for entry in value)
    return kind is object or not isinstance(value, Mapping)


def describe(hint: Any) -> str:
    """Say in words what a type accepts."""
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        Path: "a path",
        type(None): "null",
    }
    if hint in names:
        return names[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(argument) for argument in arguments)
    if origin is Annotated:
        bounds = [
            f">= {b.bound}" if isinstance(b, AtLeast) else f"> {b.bound}" for b in arguments[1:]
        ]
        return f"{describe(arguments[0])} {' and '.join(bounds)}"
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        item = arguments[1] if len(arguments) == 2 else None
        return f"a mapping of names to {describe(item)}" if item in names else "a mapping"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Sequence):
        item = next((argument for argument in arguments if argument is not Ellipsis), None)
        return f"a list of {describe(item)}" if item in names else "a list"
    return getattr(hint, "__name__", str(hint))


def spell(value: Any) -> str:
    """Show a wrong value as the user would write it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _within(value: Any, bound: Any) -> bool:
    if isinstance(bound, AtLeast):
        return bool(value >= bound.bound)
    return bool(value > bound.bound) if isinstance(bound, Above) else True
