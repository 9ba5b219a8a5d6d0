"""Texts on a composed config: a part of it, what words change in it, where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.errors import ConfigError, near

if TYPE_CHECKING:
    from mla_lightning.config import PlannedJob

#: Groups whose options say what is trained on what; all other words are compared with them.
_BASIS = ("data", "method")
#: Keys that every word fills in, or that are the same for all.
_NOT_COMPARED = ("choices", "metrics", "grid")


def section_text(config: Mapping[str, Any], key: str | None) -> str:
    """Return a config, or a part of it, as YAML.

    Args:
        config: The resolved config.
        key: A dotted key, None for the whole config.

    Raises:
        ConfigError: If there is no such key.

    Example:
        >>> print(section_text({"seed": 0, "optimizer": {"lr": 0.1}}, "optimizer"), end="")
        lr: 0.1
    """
    from mla_lightning.config import to_yaml

    node: Any = config
    for name in key.split(".") if key else ():
        if not isinstance(node, Mapping) or name not in node:
            known = list(node) if isinstance(node, Mapping) else []
            raise ConfigError(f"--package {key}: no such key.{near(name, known)}")
        node = node[name]
    return to_yaml(node)


def describe_differences(
    job: PlannedJob, config_dir: Path | None = None, allowed: Sequence[str] = ()
) -> str:
    """Return what the words of a job change, compared with its data set and method alone.

    Args:
        job: The job.
        config_dir: The user's folder of groups.
        allowed: Packages of the user.

    Returns:
        One line per key, after a line with the command that it is compared with.

    Example:
        >>> from mla_lightning.config import plan
        >>> (job,) = plan(["data=synthetic", "optimizer.lr=0.1", "~optimizer.momentum", "seed=3"])
        >>> print(describe_differences(job))
        # compared with: mla train data=synthetic
        seed: 0 -> 3
        optimizer.lr: 0.05 -> 0.1
        optimizer.momentum: 0.9 -> removed
    """
    from mla_lightning.config import plan
    from mla_lightning.config.values import flatten

    words = [w for w in job.overrides if w.partition("=")[0] in _BASIS]
    (base,) = plan(words, config_dir=config_dir, allowed=allowed)
    before, after = (
        dict(flatten({k: v for k, v in config.items() if k not in _NOT_COMPARED}))
        for config in (base.config, job.config)
    )
    lines = [f"# compared with: {' '.join(['mla train', *words])}"]
    for key in {**before, **after}:
        if before.get(key) == {} or after.get(key) == {}:  # its keys have lines of their own
            continue
        if key not in after:
            lines.append(f"{key}: {_text(before[key])} -> removed")
        elif key not in before:
            lines.append(f"{key}: added, {_text(after[key])}")
        elif before[key] != after[key]:
            lines.append(f"{key}: {_text(before[key])} -> {_text(after[key])}")
    return "\n".join(lines if len(lines) > 1 else [*lines, "no difference"])


def describe_choices(config: Mapping[str, Any], config_dir: Path | None = None) -> str:
    """Return the chosen option of every group and its file, and where configs are looked up.

    Args:
        config: The resolved config.
        config_dir: The user's folder of groups.

    Example:
        >>> from mla_lightning.config import plan
        >>> (job,) = plan(["data=synthetic"])
        >>> print(describe_choices(job.config))
        data        synthetic ...synthetic.yaml
        method      mla ...
        configs are looked up in ...conf
    """
    from mla_lightning.config.search import options, search_path

    folders = search_path(config_dir)
    lines = []
    for group, name in config["choices"].items():
        path = options(folders, group).get(name, "")
        lines.append(f"{group:<11} {name:<24} {path}")
    return "\n".join([*lines, f"configs are looked up in {', '.join(map(str, folders))}"])


def _text(value: Any) -> str:
    return "null" if value is None else str(value)
