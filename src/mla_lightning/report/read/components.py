"""What can be added to reports: functions that the YAMLs of a group name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mla_lightning.config.search import options, search_path
from mla_lightning.config.targets import TARGET, locate
from mla_lightning.errors import ConfigError
from mla_lightning.identity.sources import find_definition


@dataclass(frozen=True)
class Component:
    """One entry of a group such as ``conf/panel/``.

    Attributes:
        name: The name of its YAML.
        target: The dotted name of its function.
        options: What else the YAML holds.
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

    @property
    def code(self) -> str:
        """Return a hash of the module that defines it: figures are drawn anew when it changes."""
        source = find_definition(self.target)
        return source.hash if source is not None else ""


def components(group: str, config_dir: Path | None = None) -> dict[str, Component]:
    """Return the entries of a group, without importing what they name.

    Args:
        group: ``report`` or ``panel``.
        config_dir: A user's own folder of groups, None for none.

    Returns:
        Name -> entry.

    Raises:
        ConfigError: If a YAML is damaged or names no function.
    """
    import yaml

    found = {}
    for name, path in options(search_path(config_dir), group).items():
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
        if not isinstance(content, Mapping) or not isinstance(content.get(TARGET), str):
            raise ConfigError(f"{path} names no function: it needs {TARGET}")
        values = {key: value for key, value in content.items() if key != TARGET}
        found[name] = Component(name, content[TARGET], values, path)
    return found
