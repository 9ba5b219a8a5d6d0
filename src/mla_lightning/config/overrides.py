"""Overrides of the command line, parsed and checked in Hydra's grammar."""

from __future__ import annotations

import copy
import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mla_lightning.config.grammar import (
    MAX_LENGTH,
    interpolation_problem,
    sweep_values,
    unreadable_message,
)
from mla_lightning.config.hydra_words import instead_of_hydra, instead_of_launcher
from mla_lightning.config.search import PLURALS, options, unknown_option_message
from mla_lightning.config.secrets import secret_problems
from mla_lightning.errors import ConfigError
from mla_lightning.paths import quote_value

#: Groups of which no option need be chosen.
OPTIONAL_GROUPS = ("experiment", "debug", "optimizer", "scheduler", "callbacks")
#: Groups of which several options may be chosen, as a list.
GROUPS_OF_SEVERAL = ("logger", "callbacks")
#: Keys that are a group and a setting: null is a value, not the lack of an option.
_NULL_IS_A_VALUE = ("optimizer", "scheduler")
#: Prefix of an override that removes a key.
REMOVE = "~"


@dataclass(frozen=True)
class Override:
    """One override, or one axis of a sweep.

    Attributes:
        prefix: ``""`` to change a key, ``+`` to add one, ``++`` for either, ``~`` to remove one.
        key: ``optimizer.lr``, ``method`` or ``fusion@method.fusion``.
        values: The values as text in Hydra's grammar; a single one unless this is an axis.
        is_group: Whether it chooses an option of a group instead of setting a value.

    Example:
        >>> axis = Override("", "fusion@method.fusion", ("sum", "late"), is_group=True)
        >>> axis.name, axis.texts()
        ('fusion', ['fusion@method.fusion=sum', 'fusion@method.fusion=late'])
    """

    prefix: str
    key: str
    values: tuple[str, ...]
    is_group: bool

    @property
    def name(self) -> str:
        """The dotted key that the override sets, or the group without its place in the config."""
        return self.key.partition("@")[0]

    def texts(self) -> list[str]:
        """Return the override as words of the command line, one per value."""
        if self.prefix == REMOVE:
            return [f"{REMOVE}{self.key}"]
        return [f"{self.prefix}{self.key}={value}" for value in self.values]

    def split(self) -> list[Override]:
        """Return one override per value.

        Example:
            >>> axis = Override("", "scheduler", ("cosine", "null"), is_group=True)
            >>> [override.is_group for override in axis.split()]  # null sets scheduler to null
            [True, False]
        """
        return [
            replace(self, values=(value,), is_group=self.is_group and not self._is_null(value))
            for value in self.values
        ]

    def _is_null(self, value: str) -> bool:
        return self.key in _NULL_IS_A_VALUE and parse_value(value) is None

    def options(self) -> list[Any]:
        """Return the options that an override of one value chooses, None for no option.

        Example:
            >>> Override("", "logger", ("[csv,wandb]",), is_group=True).options()
            ['csv', 'wandb']
        """
        value = parse_value(self.values[0])
        return value if isinstance(value, list) else [value]


class OverrideReader:
    """Parses overrides; the folders of configs define which keys are groups.

    Example:
        >>> from mla_lightning.config.search import search_path
        >>> reader, problems = OverrideReader(search_path(None)), []
        >>> [override.values for override in reader.read(["method=mla,sum", "seed=3"], problems)]
        [('mla', 'sum'), ('3',)]
        >>> reader.read(["seed"], problems), problems
        ([], ["'seed' is not an override: write key=value"])
        >>> reader.read(["fusion=sum"], problems)[0].key
        'fusion@method.fusion'
    """

    def __init__(self, folders: tuple[Path, ...]) -> None:
        """Prepare to parse overrides.

        Args:
            folders: Where configs are looked up.
        """
        self.folders = folders

    def is_group(self, key: str) -> bool:
        """Return whether a key chooses an option: ``method``, or ``fusion@method.fusion``."""
        group = key.partition("@")[0]
        return "." not in group and any((folder / group).is_dir() for folder in self.folders)

    def read(self, texts: Iterable[str], problems: list[str]) -> list[Override]:
        """Parse the overrides of a command line.

        Args:
            texts: The overrides.
            problems: Error messages, without the values of secrets, are appended here.

        Returns:
            The overrides that could be parsed, in order.
        """
        by_key: dict[str, Override] = {}
        for text in texts:
            text = _spelled_out(text)
            key, _, value = text.partition("=")
            if secrets := secret_problems(key.lstrip("+~"), value):
                problems += secrets
            elif (override := self._parse(text, problems)) is not None:
                if override.key in by_key:
                    problems.append(f"{override.key} is given twice")
                by_key[override.key] = override
        return list(by_key.values())

    def read_grid(self, grid: Mapping[str, Any], problems: list[str]) -> list[Override]:
        """Convert an experiment's grid to axes.

        Args:
            grid: Override key -> list of values.
            problems: Error messages are appended here.

        Returns:
            One axis per key.
        """
        axes = []
        for key, values in grid.items():
            if not isinstance(values, list) or not values:
                problems.append(f"grid.{key} must be a list of values, got {values!r}")
                continue
            texts = tuple(format_override_value(value) for value in values)
            axes.append(self._check(Override("", str(key), texts, self.is_group(key)), problems))
        return axes

    def _parse(self, text: str, problems: list[str]) -> Override | None:
        from hydra.errors import HydraException

        if text.startswith(REMOVE):
            return self._parse_removal(text, problems)
        if text.startswith("="):
            problems.append(unreadable_message(text))
            return None
        if "=" not in text:
            problems.append(f"{text!r} is not an override: write key=value")
            return None
        if len(text) > MAX_LENGTH:
            problems.append(
                f"{text[:40]!r}... has {len(text)} characters; {MAX_LENGTH} may be used"
            )
            return None
        try:
            parsed = _parser(self.folders).parse_overrides([text])[0]
            if parsed.is_sweep_override():
                values = sweep_values(parsed, text, problems, self._options_hint(parsed))
            else:
                values = (parsed.get_value_element_as_str(),)
            for value in values:
                parse_value(value)  # the text may not be readable again
        except (HydraException, ValueError, RecursionError) as error:
            problems.append(unreadable_message(text, str(error)))
            return None
        if not values:
            return None
        found = [
            problem for value in values if (problem := interpolation_problem(parse_value(value)))
        ]
        if found:
            problems.append(f"{text}: {found[0]}")
            return None
        prefix = {"ADD": "+", "FORCE_ADD": "++"}.get(parsed.type.name, "")
        key = parsed.get_key_element()[len(prefix) :]
        is_group = self.is_group(key) and not isinstance(parse_value(values[0]), dict)
        if len(values) == 1 and key in _NULL_IS_A_VALUE and parse_value(values[0]) is None:
            is_group = False
        if is_group and prefix:
            problems.append(f"{text}: write {text[len(prefix) :]}")
            return None
        if parsed.is_hydra_override():
            hint = instead_of_hydra(key, text.partition("=")[2], options(self.folders, "launcher"))
            problems.append(f"{key}: {hint}")
            return None
        return self._check(Override(prefix, key, values, is_group), problems)

    def _parse_removal(self, text: str, problems: list[str]) -> Override | None:
        """Parse ``~key``: a group loses its choice, any other key is removed."""
        key, equals, _ = text.removeprefix(REMOVE).partition("=")
        if equals:
            problems.append(f"{text}: write ~{key}, without a value")
        elif not self.is_group(key) or key in _NULL_IS_A_VALUE:
            return Override(REMOVE, key, ("null",), is_group=False)
        elif key in OPTIONAL_GROUPS:
            return Override("", key, ("null",), is_group=True)
        else:
            default = {"logger": "csv", "missing": "none", "ablation": "none"}.get(key, "...")
            problems.append(f"{text}: one option of {key} is needed; write {key}={default}")
        return None

    def _options_hint(self, parsed: Any) -> str:
        group = parsed.get_key_element().partition("@")[0]
        if not self.is_group(group):
            return ""
        return f" Run `mla list {PLURALS.get(group, group)}` to see the options of {group}."

    def _check(self, override: Override, problems: list[str]) -> Override:
        """Report unknown options and repeated values; return the override."""
        if len(set(override.values)) < len(override.values):
            problems.append(f"{override.key}={','.join(override.values)} names a value twice")
        if not override.is_group:
            problems += [
                f"{override.key}={value} is not finite: give a finite number"
                for value in override.values
                if not _is_finite(parse_value(value))
            ]
            return override
        group = override.name
        known = options(self.folders, group)
        for value in map(parse_value, override.values):
            if isinstance(value, list) and group in GROUPS_OF_SEVERAL:
                if not value or len(set(map(str, value))) < len(value):
                    problems.append(f"{group}={value}: name each option once")
                for option in value:
                    problems += self._option_problems(group, option, known)
            else:
                problems += self._option_problems(group, value, known)
        return override

    @staticmethod
    def _option_problems(group: str, value: Any, known: dict[str, Path]) -> list[str]:
        if value is None and group not in OPTIONAL_GROUPS:
            return [f"{group}=null: choose one of {', '.join(known)}"]
        if isinstance(value, list | dict):
            return [f"{group}={value}: choose a single one of {', '.join(known)}"]
        if value is None or str(value) in known:
            return []
        message = unknown_option_message(group, str(value), known)
        words = instead_of_launcher(str(value), known) if group == "launcher" else ""
        if group in _NULL_IS_A_VALUE and "." in str(value):
            words = f"{group}._target_={value} for any other class"
        return [f"{message} Write {words}." if words else message]


def _spelled_out(text: str) -> str:
    """Return an override with the place of its group, where the group has one place only."""
    return (
        text.replace("fusion=", "fusion@method.fusion=", 1) if text.startswith("fusion=") else text
    )


def _is_finite(value: Any) -> bool:
    if isinstance(value, list | dict):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def parse_value(text: str) -> Any:
    """Parse a value in Hydra's grammar to plain containers.

    Example:
        >>> parse_value("[0.1,null]"), parse_value("{audio: 0.5}")
        ([0.1, None], {'audio': 0.5})
    """
    return copy.deepcopy(_parse_value(text))


@functools.lru_cache(maxsize=4096)
def _parse_value(text: str) -> Any:
    return _parser(()).parse_overrides([f"key={text}"])[0].value()


@functools.lru_cache(maxsize=8)
def _parser(folders: tuple[Path, ...]) -> Any:
    from hydra import version
    from hydra.core.override_parser.overrides_parser import OverridesParser

    version.setbase("1.3")

    class Options:
        """Provides the options that the grammar's ``glob(*)`` matches."""

        def get_group_options(self, group: str, results_filter: object = None) -> list[str]:
            return list(options(folders, group))

    return OverridesParser.create(config_loader=Options())  # type: ignore[arg-type]


def plain_value(key: str, value: Any) -> Any:
    """Convert a Python value to what a config can hold.

    Args:
        key: The key that it is for.
        value: A number, text, bool, None, path, scalar or array of NumPy or torch, a mapping, or
            any other iterable.

    Returns:
        The same value of plain types; iterables become lists, sets in sorted order.

    Raises:
        ConfigError: If it is of another type.

    Example:
        >>> import numpy as np
        >>> plain_value("seed", np.arange(2)), plain_value("data.path", Path("data/new"))
        ([0, 1], 'data/new')
    """
    if callable(tolist := getattr(value, "tolist", None)):  # arrays and scalars of NumPy and torch
        value = tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): plain_value(f"{key}.{name}", item) for name, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        items = [plain_value(key, item) for item in value]
        return sorted(items, key=_sort_key) if isinstance(value, set | frozenset) else items
    raise ConfigError(
        f"{key} cannot be set to a value of type {type(value).__name__}: give a number, a text, "
        "True, False, None, a path, a dict, or a list of them"
    )


def _sort_key(value: Any) -> tuple[str, Any]:
    is_number = isinstance(value, int | float)
    return ("", value) if is_number else (type(value).__name__, repr(value))


def format_override_value(value: Any) -> str:
    """Format a value so that Hydra's grammar parses it to the same value.

    Example:
        >>> [format_override_value(value) for value in ("a b", None, [0.1, 2])]
        ["'a b'", 'null', '[0.1,2]']
    """
    from hydra.core.override_parser.types import Override as HydraOverride

    if isinstance(value, str):
        is_plain = value and re.fullmatch(r"[A-Za-z0-9_/.@-]+", value)
        return value if is_plain and _parse_value(value) == value else quote_value(value)
    if isinstance(value, list):
        return "[" + ",".join(format_override_value(item) for item in value) + "]"
    if isinstance(value, dict):
        items = (f"{name}:{format_override_value(item)}" for name, item in value.items())
        return "{" + ",".join(items) + "}"
    return HydraOverride._get_value_element_as_str(value)
