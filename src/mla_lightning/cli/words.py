"""The words after a verb: what is acted on, and KEY=VALUE options, typed by the called function."""

from __future__ import annotations

import argparse
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mla_lightning.errors import ConfigError, near


def name_and_options(words: Sequence[str], action: str, needs: str) -> tuple[str, dict[str, str]]:
    """Divide words into what is acted on and KEY=VALUE."""
    names = [word for word in words if "=" not in word]
    if len(names) != 1:
        got = f", got {' '.join(names)!r}" if names else ""
        raise ConfigError(f"mla data {action} takes one {needs}{got}. See `mla data --help`.")
    given: dict[str, str] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if separator:
            if key in given:
                raise ConfigError(f"{key} is given twice")
            given[key] = value
    return names[0], given


def refuse_options(given: Mapping[str, str], action: str) -> None:
    """Refuse options of an action that takes none."""
    if given:
        raise ConfigError(f"mla data {action} takes no options, got {', '.join(given)}")


def options_for(
    function: Callable[..., Any],
    given: Mapping[str, str],
    command: str,
    *,
    skip: Sequence[str] = (),
    also: Sequence[str] = (),
    hint: str = "",
) -> dict[str, Any]:
    """Convert KEY=VALUE to what a function takes."""
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in {"self", *skip}
        and parameter.kind not in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}
    }
    hints = typing.get_type_hints(function)
    known = [*parameters, *also]
    options = {}
    for key, value in given.items():
        if key not in parameters:
            raise ConfigError(
                f"{command}: unknown option {key!r}.{near(key, known)} "
                f"It takes {', '.join(known) or 'no options'}."
            )
        options[key] = converted(value, hints.get(key, str), key)
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in options:
            raise ConfigError(f"{key} is missing: {command} {key}=... {hint}".rstrip())
    return options


def converted(text: str, wanted: Any, key: str) -> Any:
    """Read a text as the type that an annotation names."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in {typing.Union, types.UnionType}:
        if type(None) in inner and text.lower() in {"none", "null"}:
            return None
        kinds = [kind for kind in inner if kind is not type(None)]
        kinds.sort(key=lambda kind: kind is str)  # the most telling one first, text last
        if Path in kinds and str in kinds:
            kinds = [kind for kind in kinds if kind is not str]
        for number, kind in enumerate(kinds, start=1):
            try:
                return converted(text, kind, key)
            except ConfigError:
                if number == len(kinds):
                    raise
    if origin is typing.Literal:
        for value in inner:
            if text == str(value):
                return value
        known = [str(value) for value in inner]
        raise ConfigError(f"{key}={text}: must be one of {', '.join(known)}.{near(text, known)}")
    if origin in {tuple, list} or (inspect.isclass(origin) and issubclass(origin, Sequence)):
        kind = inner[0] if inner else str
        values = [converted(part, kind, key) for part in text.strip("[]()").split(",") if part]
        return tuple(values) if origin is not list else values
    if wanted is bool:
        if text.lower() not in {"true", "false"}:
            raise ConfigError(f"{key} must be true or false, got {text!r}")
        return text.lower() == "true"
    if wanted in {int, float}:
        try:
            return wanted(text)
        except ValueError:
            what = "a whole number" if wanted is int else "a number"
            raise ConfigError(f"{key} must be {what}, got {text!r}") from None
    if wanted is Path:
        return Path(text).expanduser()
    return text


def add_own_code(parser: argparse.ArgumentParser, groups: str = "method/, data/, ...") -> None:
    """Add the options with which a verb finds a user's own configs and classes.

    Args:
        parser: The verb's parser.
        groups: The folders that the verb looks for, for its help.
    """
    parser.add_argument(
        "--config-dir", type=Path, metavar="DIR", help=f"a folder with your own {groups}"
    )
    add_allowed(parser)


def add_allowed(parser: argparse.ArgumentParser) -> None:
    """Add the option that lets configs name a user's own classes."""
    parser.add_argument(
        "--allow-target",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="let configs name classes of this package, looked up in the current folder, too",
    )
