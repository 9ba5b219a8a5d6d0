"""KEY=VALUE options of the command line, converted to the types of a function's parameters."""

from __future__ import annotations

import argparse
import inspect
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mla_lightning.errors import ConfigError, near
from mla_lightning.paths import OPTION, unquote_value


def split_words(words: Sequence[str], action: str, expected: str) -> tuple[str, dict[str, str]]:
    """Split the words of a ``mla data`` action into its one argument and its options.

    Args:
        words: The words after the action.
        action: The action, for messages.
        expected: The description of the argument, for messages, such as ``NAME``.

    Returns:
        The argument, and the options: key -> text.

    Raises:
        ConfigError: If there is not exactly one argument, or an option is given twice.

    Example:
        >>> split_words(["cremad", "raw=/download", "jobs=8"], "prepare", "NAME")
        ('cremad', {'raw': '/download', 'jobs': '8'})
        >>> split_words(["./run=1/my.csv", "target=data/my"], "import", "FILE")
        ('./run=1/my.csv', {'target': 'data/my'})
    """
    arguments = [word for word in words if not OPTION.match(word)]
    if not arguments:  # a path such as a=b, which looks like an option
        arguments = [word for word in words if os.path.exists(word)][:1]  # noqa: PTH110
    if len(arguments) != 1:
        got = f", got {' '.join(arguments)!r}" if arguments else ""
        hint = " Write a path with = in it with ./ in front." if not arguments and words else ""
        raise ConfigError(
            f"mla data {action} takes one {expected}{got}.{hint} See `mla data --help`."
        )
    options: dict[str, str] = {}
    for word in words:
        if word != arguments[0]:
            key, _, text = word.partition("=")
            if key in options:
                raise ConfigError(f"{key} is given twice")
            options[key] = text
    return arguments[0], options


def run_options(overrides: Sequence[str], names: Sequence[str], verb: str) -> dict[str, str]:
    """Return the KEY=VALUE options of a verb that takes a run.

    Args:
        overrides: The words.
        names: The options that it takes.
        verb: The verb, for messages.

    Returns:
        Key -> text, without quotes.

    Raises:
        ConfigError: If a word is none of these options, or has no value.

    Example:
        >>> run_options(["split=val"], ["split", "output"], "mla predict")
        {'split': 'val'}
        >>> run_options(["spilt=val"], ["split", "output"], "mla predict")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: mla predict takes split=..., output=..., not ...
    """
    values: dict[str, str] = {}
    for text in overrides:
        key, _, value = text.partition("=")
        if key not in names or not value:
            raise ConfigError(
                f"{verb} takes {', '.join(f'{name}=...' for name in names)}, not {text!r}."
                f"{near(key, names)}"
            )
        values[key] = unquote_value(value)
    return values


def check_output(path: Path, suffixes: Sequence[str]) -> None:
    """Check that a new file can be written.

    Args:
        path: The file.
        suffixes: The endings that its name may have.

    Raises:
        ConfigError: If it has another ending, exists, or its folder is missing or read-only.

    Example:
        >>> check_output(Path("model.pt"), [".onnx"])
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: output=model.pt: the name must end with .onnx
    """
    if path.suffix not in suffixes:
        raise ConfigError(f"output={path}: the name must end with {' or '.join(suffixes)}")
    if path.exists():
        raise ConfigError(f"{path} exists already. Choose another file: output=FILE")
    check_place(path)


def check_place(path: Path, option: str = "output=") -> None:
    """Check that the folder of an output exists and can be written to.

    Args:
        path: The output.
        option: What its path follows on the command line.

    Raises:
        ConfigError: If the folder is missing or read-only.

    Example:
        >>> check_place(Path("nowhere/model.onnx"))
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: output=nowhere/model.onnx: there is no folder nowhere. ...
    """
    if not path.parent.is_dir():
        raise ConfigError(f"{option}{path}: there is no folder {path.parent}. Create it first")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"{option}{path}: the folder {path.parent} cannot be written to")


def check_no_options(options: Mapping[str, str], action: str) -> None:
    """Check that an action that has no options was given none.

    Raises:
        ConfigError: If there is any option.

    Example:
        >>> check_no_options({"jobs": "8"}, "check")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: mla data check takes no options, got jobs
    """
    if options:
        raise ConfigError(f"mla data {action} takes no options, got {', '.join(options)}")


def arguments_for(
    function: Callable[..., Any],
    options: Mapping[str, str],
    command: str,
    *,
    skip: Sequence[str] = (),
    also: Sequence[str] = (),
    hint: str = "",
) -> dict[str, Any]:
    """Convert options to the keyword arguments of a function.

    Args:
        function: The function, whose parameters have type annotations.
        options: Key -> text.
        command: The command, for messages.
        skip: Parameters that are no options.
        also: Further options of the command, suggested for similar unknown ones.
        hint: Text after the message on a missing option.

    Returns:
        Name -> value.

    Raises:
        ConfigError: If an option is unknown, missing, or has the wrong type.

    Example:
        >>> def show(store: Path, *, per_class: int = 4): ...
        >>> arguments_for(show, {"per_class": "2"}, "mla data show", skip=["store"])
        {'per_class': 2}
        >>> arguments_for(show, {"per_clas": "2"}, "mla data show", skip=["store"])
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: mla data show: unknown option 'per_clas'. Did you mean ...
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in {"self", *skip}
        and parameter.kind not in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}
    }
    hints = typing.get_type_hints(function)
    known = [*parameters, *also]
    arguments = {}
    for key, text in options.items():
        if key not in parameters:
            raise ConfigError(
                f"{command}: unknown option {key!r}.{near(key, known)} "
                f"It takes {', '.join(known) or 'no options'}."
            )
        arguments[key] = convert(text, hints.get(key, str), key)
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in arguments:
            raise ConfigError(f"{key} is missing: {command} {key}=... {hint}".rstrip())
    return arguments


def convert(text: str, hint: Any, key: str) -> Any:
    """Convert a text to the type of an annotation.

    Args:
        text: The text of an option.
        hint: bool, int, float, str, Path, a Literal, a sequence of these, or a union of them.
        key: The option, for messages.

    Returns:
        The value; lists are separated by commas, and ``none`` is None where the type allows it.

    Raises:
        ConfigError: If the text does not fit the type.

    Example:
        >>> convert("8", int | None, "jobs"), convert("none", int | None, "jobs")
        (8, None)
        >>> convert("0.5,0.25", tuple[float, ...], "fractions")
        (0.5, 0.25)
        >>> convert("yes", bool, "loud")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: loud must be true or false, got 'yes'
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        if type(None) in inner and text.lower() in {"none", "null"}:
            return None
        kinds = [kind for kind in inner if kind is not type(None)]
        kinds.sort(key=lambda kind: kind is str)  # str last, since it accepts every text
        if Path in kinds and str in kinds:
            kinds = [kind for kind in kinds if kind is not str]
        for number, kind in enumerate(kinds, start=1):
            try:
                return convert(text, kind, key)
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
        values = [convert(item, kind, key) for item in text.strip("[]()").split(",") if item]
        return tuple(values) if origin is not list else values
    if hint is bool:
        if text.lower() not in {"true", "false"}:
            raise ConfigError(f"{key} must be true or false, got {text!r}")
        return text.lower() == "true"
    if hint in {int, float}:
        try:
            return hint(text)
        except ValueError:
            expected = "a whole number" if hint is int else "a number"
            raise ConfigError(f"{key} must be {expected}, got {text!r}") from None
    if hint is Path:
        if not text.strip():
            raise ConfigError(f"{key} must not be empty")
        return Path(text).expanduser()
    return text


def add_user_code_options(
    parser: argparse.ArgumentParser, groups: str = "method/, data/, ..."
) -> None:
    """Add the options ``--config-dir`` and ``--allow-target`` to a verb.

    Args:
        parser: The verb's parser.
        groups: The groups that the verb looks up in the user's folder, for its help.
    """
    parser.add_argument(
        "--config-dir", type=Path, metavar="DIR", help=f"a folder with your own {groups}"
    )
    add_allow_target(parser)


def add_allow_target(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--allow-target`` to a verb.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_allow_target(parser)
        >>> parser.parse_args(["--allow-target", "my_lab"]).allow_target
        ['my_lab']
    """
    parser.add_argument(
        "--allow-target",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="let configs name classes of this package, which may lie in the current folder",
    )
