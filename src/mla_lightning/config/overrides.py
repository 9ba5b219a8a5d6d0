"""Read the command line's overrides, in Hydra's grammar, and collect what is wrong with them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mla_lightning.config.search import options, unknown_option
from mla_lightning.config.secrets import ADVICE, contains_secret, is_secret_key

#: Groups that nothing has to be chosen of.
OPTIONAL = ("experiment", "debug")


@dataclass(frozen=True)
class Override:
    """One override, or one axis of a sweep.

    Attributes:
        prefix: ``""`` to change, ``+`` to add, ``++`` for either.
        key: ``optimizer.lr``, ``method`` or ``fusion@method.fusion``.
        values: The values in Hydra's spelling; one unless it is an axis.
        is_group: It chooses a file of a group instead of setting a value.
    """

    prefix: str
    key: str
    values: tuple[str, ...]
    is_group: bool

    @property
    def name(self) -> str:
        """Name what it sets: the dotted key, or the group without its place."""
        return self.key.partition("@")[0]

    def texts(self) -> list[str]:
        """Spell the override for the command line, once per value."""
        return [f"{self.prefix}{self.key}={value}" for value in self.values]


class Reader:
    """Parses overrides; a search path tells groups from values."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        """Prepare.

        Args:
            folders: Where configs are looked up.
        """
        self.folders = folders

    def is_group(self, key: str) -> bool:
        """Whether a key chooses a file: ``method``, or ``fusion@method.fusion``."""
        group = key.partition("@")[0]
        return "." not in group and any((folder / group).is_dir() for folder in self.folders)

    def read(self, texts: Iterable[str], faults: list[str]) -> list[Override]:
        """Parse the command line.

        Args:
            texts: The overrides.
            faults: What is wrong is added here, without the values of secrets.

        Returns:
            The overrides that could be parsed, in order.
        """
        found: dict[str, Override] = {}
        for text in texts:
            key, _, value = text.partition("=")
            if is_secret_key(key.lstrip("+~")):
                faults.append(f"{key} looks like a secret, so it is refused. {ADVICE}")
            elif contains_secret(value):
                faults.append(f"The value of {key} is a secret, so it is refused. {ADVICE}")
            elif (override := self._parse(text, faults)) is not None:
                if override.key in found:
                    faults.append(f"{override.key} is given twice")
                found[override.key] = override
        return list(found.values())

    def from_grid(self, grid: Mapping[str, Any], faults: list[str]) -> list[Override]:
        """Turn an experiment's grid into axes.

        Args:
            grid: Override key -> list of values.
            faults: What is wrong is added here.

        Returns:
            One axis per key.
        """
        axes = []
        for key, values in grid.items():
            if not isinstance(values, list) or not values:
                faults.append(f"grid.{key} must be a list of values, got {values!r}")
                continue
            spelled = tuple(spell_value(value) for value in values)
            axes.append(self._checked(Override("", str(key), spelled, self.is_group(key)), faults))
        return axes

    def _parse(self, text: str, faults: list[str]) -> Override | None:
        from hydra.errors import HydraException

        if text.startswith("~"):
            key = text[1:].partition("=")[0]
            faults.append(f"{text}: nothing can be removed; write {key}=null if it may be left out")
            return None
        if "=" not in text:
            faults.append(f"{text!r} is no setting: write key=value")
            return None
        try:
            parsed = _parser(self.folders).parse_overrides([text])[0]
            if parsed.is_sweep_override():
                values = tuple(parsed.sweep_string_iterator())
            else:
                values = (parsed.get_value_element_as_str(),)
        except HydraException as error:
            faults.append(f"{text!r} cannot be read: {str(error).splitlines()[0]}")
            return None
        prefix = {"ADD": "+", "FORCE_ADD": "++"}.get(parsed.type.name, "")
        key = parsed.get_key_element()[len(prefix) :]
        is_group = self.is_group(key) and not isinstance(value_of(values[0]), dict)
        if is_group and prefix:
            faults.append(f"{text}: write {text[len(prefix) :]}")
            return None
        if parsed.is_hydra_override():
            faults.append(f"{key}: runs are started by mla itself; Hydra's own settings do nothing")
            return None
        return self._checked(Override(prefix, key, values, is_group), faults)

    def _checked(self, override: Override, faults: list[str]) -> Override:
        """Report unknown choices and values that repeat."""
        if len(set(override.values)) < len(override.values):
            faults.append(f"{override.key}={','.join(override.values)} names a value twice")
        if not override.is_group:
            return override
        group = override.name
        known = options(self.folders, group)
        for value in map(value_of, override.values):
            if value is None and group not in OPTIONAL:
                faults.append(f"{group}=null: one has to be chosen: {', '.join(known)}")
            elif isinstance(value, list | dict):
                faults.append(f"{group}={value}: choose one, not several: {', '.join(known)}")
            elif value is not None and str(value) not in known:
                faults.append(unknown_option(group, str(value), known))
        return override


def value_of(spelled: str) -> Any:
    """Turn a value in Hydra's spelling into plain containers."""
    return copy.deepcopy(_parsed(spelled))


@functools.lru_cache(maxsize=4096)
def _parsed(spelled: str) -> Any:
    return _parser(()).parse_overrides([f"key={spelled}"])[0].value()


@functools.lru_cache(maxsize=8)
def _parser(folders: tuple[Path, ...]) -> Any:
    from hydra import version
    from hydra.core.override_parser.overrides_parser import OverridesParser

    version.setbase("1.3")

    class Options:
        """Answers the grammar's ``glob(*)``."""

        def get_group_options(self, group: str, results_filter: object = None) -> list[str]:
            return list(options(folders, group))

    return OverridesParser.create(config_loader=Options())  # type: ignore[arg-type]


def spell_value(value: Any) -> str:
    """Write a value as Hydra's grammar reads it.

    Example:
        >>> spell_value("a b"), spell_value(None), spell_value([0.1, 2])
        ("'a b'", 'null', '[0.1,2]')
    """
    from hydra.core.override_parser.types import Override as HydraOverride

    if isinstance(value, str):
        text = value.replace("\\", "\\\\").replace("'", "\\'")
        is_plain = value and all(c.isalnum() or c in "_-/.@" for c in value)
        return value if is_plain and _parsed(value) == value else f"'{text}'"
    if isinstance(value, list):
        return "[" + ",".join(spell_value(item) for item in value) + "]"
    return HydraOverride._get_value_element_as_str(value)
