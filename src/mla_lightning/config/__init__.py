"""Compose, check, explain and instantiate configs: the only room that knows Hydra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mla_lightning.config.jobs import Job, compose_jobs
from mla_lightning.config.plan import Planned, plan
from mla_lightning.config.search import conf_dir
from mla_lightning.config.targets import allow_target, forbidden, instantiate
from mla_lightning.errors import ConfigError

__all__ = [
    "Job",
    "Planned",
    "allow_target",
    "compose_jobs",
    "conf_dir",
    "instantiate",
    "load",
    "plan",
    "show",
]


def show(config: dict[str, Any]) -> str:
    """Write a config as YAML.

    Args:
        config: Plain containers.

    Returns:
        YAML, keys in the config's order.
    """
    import yaml

    return str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def load(path: Path) -> dict[str, Any]:
    """Read a stored config, whose author nobody knows.

    Args:
        path: A run folder's ``config.yaml``.

    Returns:
        Plain containers.

    Raises:
        ConfigError: If it is no YAML mapping, or names a target that is not allowed.
    """
    import yaml

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as a config: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} holds no config")
    if faults := forbidden(config):
        raise ConfigError(f"{path}:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return config
