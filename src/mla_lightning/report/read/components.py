"""Extensible components of reports: functions named by the YAMLs of a config group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mla_lightning.config.search import options, search_path
from mla_lightning.config.targets import TARGET, locate
from mla_lightning.errors import ConfigError, MLAError, RunError, reason_of
from mla_lightning.identity.sources import find_definition


@dataclass(frozen=True)
class Component:
    """One entry of a config group such as ``conf/panel/``.

    Attributes:
        name: Name of its YAML.
        target: Dotted name of its function.
        options: The other keys of the YAML.
        path: The YAML.
    """

    name: str
    target: str
    options: Mapping[str, Any]
    path: Path

    def function(self) -> Callable[..., Any]:
        """Import the function.

        Raises:
            ConfigError: If it cannot be imported or is not allowed; see ``--allow-target``.
        """
        function: Callable[..., Any] = locate(self.target, functions_of=("mla_lightning.report",))
        return function

    def call(self, argument: Any, result_type: type, *, or_none: bool = False) -> Any:
        """Call the function, and name its YAML if it fails.

        Args:
            argument: What it is given.
            result_type: The type that it must return.
            or_none: Whether it may also return None.

        Returns:
            What it returns.

        Raises:
            ConfigError: If it cannot be imported or is not allowed.
            RunError: If it raises an error, or returns another type.
        """
        function = self.function()
        try:
            result = function(argument)
        except MLAError:
            raise
        except Exception as error:  # code of a user, which may raise anything
            raise RunError(
                f"{self.target} raised {type(error).__name__}: {error} (named by {self.path})"
            ) from error
        if isinstance(result, result_type) or (or_none and result is None):
            return result
        raise RunError(
            f"{self.target} returned {type(result).__name__}, not {result_type.__name__} (named by "
            f"{self.path})"
        )

    @property
    def code(self) -> str:
        """Hash of the module that defines the function; figures are redrawn when it changes."""
        source = find_definition(self.target)
        return source.hash if source is not None else ""


def components(group: str, config_dir: Path | None = None) -> dict[str, Component]:
    """Return the entries of a config group, without importing their functions.

    Args:
        group: ``report`` or ``panel``.
        config_dir: A user's own folder of config groups, None for none.

    Returns:
        Name -> entry.

    Raises:
        ConfigError: If a YAML is damaged or names no function.

    Example:
        >>> components("report")["table1"].target
        'mla_lightning.report.tables.table1.table1'
    """
    import yaml

    entries = {}
    for name, path in options(search_path(config_dir), group).items():
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = " ".join(reason_of(error, path).split())
            raise ConfigError(f"{path} cannot be read: {reason}") from error
        if not isinstance(content, Mapping) or not isinstance(content.get(TARGET), str):
            raise ConfigError(f"{path} names no function: it needs {TARGET}")
        settings = {key: value for key, value in content.items() if key != TARGET}
        entries[name] = Component(name, content[TARGET], settings, path)
    return entries
