"""Types of settings with bounds, and checks of values against type annotations."""

from __future__ import annotations

import operator
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin


@dataclass(frozen=True)
class AtLeast:
    """A lower bound that values may equal.

    Example:
        >>> fits_type(1, Annotated[int, AtLeast(1)])
        True
    """

    bound: float


@dataclass(frozen=True)
class Above:
    """A lower bound that values must exceed.

    Example:
        >>> fits_type(0.0, Annotated[float, Above(0)])
        False
    """

    bound: float


@dataclass(frozen=True)
class AtMost:
    """An upper bound that values may equal.

    Example:
        >>> fits_type(3, Annotated[int, AtMost(2)])
        False
    """

    bound: float


@dataclass(frozen=True)
class Below:
    """An upper bound that values must not reach.

    Example:
        >>> fits_type(1.0, Annotated[float, AtLeast(0), Below(1)])
        False
    """

    bound: float


#: Replaces an interpolation that failed, so that its type is not reported, too.
UNRESOLVED = "<unresolved>"
Count = Annotated[int, AtLeast(1)]
Seconds = Annotated[float, Above(0)]


def fits_type(value: Any, hint: Any) -> bool:
    """Return whether a plain value fits a type annotation.

    Args:
        value: A value as YAML holds it; a node that names a class fits any type.
        hint: A type annotation; any value fits an annotation that is not supported.

    Returns:
        False only if the value is surely wrong. An int fits float; a bool fits neither.

    Example:
        >>> fits_type(1, float), fits_type(True, float), fits_type(None, float | None)
        (True, False, True)
        >>> fits_type([1, "2"], list[int])
        False
    """
    if hint is Any or value == UNRESOLVED:
        return True
    if hint is None or hint is type(None):
        return value is None
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits_type(value, argument) for argument in arguments)
    if origin is Annotated:
        inner, *bounds = arguments
        is_number = not isinstance(value, Mapping)  # but a node that names a class
        return fits_type(value, inner) and all(
            _is_within(value, bound) for bound in bounds if is_number
        )
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
        return isinstance(value, Mapping) and all(fits_type(v, item) for v in value.values())
    if issubclass(kind, Sequence):
        item = next((argument for argument in arguments if argument is not Ellipsis), Any)
        length = _fixed_length(kind, arguments)
        has_length = length is None or (isinstance(value, list | tuple) and len(value) == length)
        is_list = isinstance(value, list | tuple) and has_length
        return is_list and all(fits_type(v, item) for v in value)
    return kind is object or (value is not None and not isinstance(value, Mapping))


def describe_type(hint: Any) -> str:
    """Describe in words the values that a type annotation accepts.

    Example:
        >>> describe_type(Annotated[int, AtLeast(1)] | None)
        'a whole number >= 1 or null'
        >>> describe_type(Literal["keep", "retrain"])
        'one of keep, retrain'
    """
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
        return " or ".join(describe_type(argument) for argument in arguments)
    if origin is Annotated:
        inner, *bounds = arguments
        texts = [f"{_SIGNS[type(b)]} {b.bound}" for b in bounds if type(b) in _SIGNS]
        return f"{describe_type(inner)} {' and '.join(texts)}".rstrip()
    if origin is Literal:
        values = ", ".join(map(str, arguments))
        return f"one of {values}" if len(arguments) > 1 else values
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        item = arguments[1] if len(arguments) == 2 else None
        return f"a mapping of names to {describe_type(item)}" if item in names else "a mapping"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Sequence):
        item = next((argument for argument in arguments if argument is not Ellipsis), None)
        length = _fixed_length(origin, arguments)
        if item in names or get_origin(item) is Annotated:
            each = f"{length} values, each " if length is not None else ""
            return f"a list of {each}{describe_type(item)}"
        return "a list" if length is None else f"a list of {length} values"
    return getattr(hint, "__name__", str(hint))


def format_value(value: Any) -> str:
    """Format a value as the user writes it, for messages.

    Example:
        >>> format_value(None), format_value(True), format_value("ten")
        ('null', 'true', "'ten'")
    """
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _is_within(value: Any, bound: Any) -> bool:
    """Return whether a number is within a bound, which nan never is."""
    comparison = _COMPARISONS.get(type(bound))
    return comparison is None or bool(comparison(value, bound.bound))


def _fixed_length(kind: type, arguments: tuple[Any, ...]) -> int | None:
    """Return the length of a tuple of a fixed length, None for other sequences."""
    is_fixed = issubclass(kind, tuple) and arguments and Ellipsis not in arguments
    return len(arguments) if is_fixed else None


_COMPARISONS = {
    AtLeast: operator.ge,
    Above: operator.gt,
    AtMost: operator.le,
    Below: operator.lt,
}
_SIGNS = {AtLeast: ">=", Above: ">", AtMost: "<=", Below: "<"}
