"""Configs: compose, check, explain and instantiate them. The only package that imports Hydra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mla_lightning.config.jobs import Job, compose_jobs
from mla_lightning.config.plan import PlannedJob, plan
from mla_lightning.config.schedule import schedule_note
from mla_lightning.config.search import conf_dir
from mla_lightning.config.targets import allow_target, find_forbidden_targets, instantiate
from mla_lightning.config.yaml_files import check_file
from mla_lightning.errors import ConfigError, reason_of

__all__ = [
    "Job",
    "PlannedJob",
    "allow_target",
    "compose_jobs",
    "conf_dir",
    "instantiate",
    "load_config",
    "plan",
    "schedule_note",
    "to_yaml",
]


def to_yaml(config: dict[str, Any]) -> str:
    """Format a config as YAML.

    Args:
        config: Plain containers.

    Returns:
        YAML text, keys in the order of the config.

    Example:
        >>> print(to_yaml({"seed": 0, "data": {"name": "openmoji"}}), end="")
        seed: 0
        data:
          name: openmoji
    """
    import yaml

    return str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def load_config(path: Path) -> dict[str, Any]:
    """Read a stored config from an untrusted source.

    Args:
        path: A run folder's ``config.yaml``.

    Returns:
        Plain containers.

    Raises:
        ConfigError: If the file holds no YAML mapping, or names a target that is not allowed.

    Example:
        >>> path = tmp / "config.yaml"
        >>> _ = path.write_text("data: {_target_: os.system}")
        >>> load_config(path)
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: ...
          - data._target_='os.system' is not allowed, and nothing was imported. ...
    """
    import yaml

    try:
        check_file(path)
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as a config: {reason_of(error, path)}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} holds no config, that is, no mapping of keys to values")
    if problems := find_forbidden_targets(config):
        raise ConfigError(f"{path}:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return config
