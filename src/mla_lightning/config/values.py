"""Single values of a composed config: set them, and suggest the right key for a wrong one."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from typing import Any

from mla_lightning.config.overrides import (
    REMOVE,
    Override,
    format_override_value,
    parse_value,
)
from mla_lightning.config.schedule import takes_steps
from mla_lightning.config.settings import INSTEAD
from mla_lightning.config.targets import PARTIAL, TARGET

#: Keys that are filled in or used up during composition, and what to write instead.
NOT_SETTABLE = {
    "choices": "it is filled in from the groups: write method=..., data=...",
    "tuned_lr": "write optimizer.lr=...",
    "tuned": "write the setting itself, such as optimizer.lr=...",
    "metrics": "all of conf/metric/ are computed; add yours to a metric/ folder of --config-dir",
    "grid": "write the values of a key, such as seed=0,1,2, to replace the experiment's",
}

#: Settings of a launcher that pass any key on to another program, which knows its own.
OPEN = ("launcher.options",)


def set_values(
    config: Mapping[str, Any], overrides: list[Override], ignored: set[str], problems: list[str]
) -> dict[str, Any]:
    """Set values in a copy of a composed config, which shares the other sections with it.

    Args:
        config: The composed config, unresolved; it is not changed.
        overrides: Overrides of values, one value each.
        ignored: Top-level keys whose choice is unknown; keys below them are not checked.
        problems: A message for each unknown key, with the nearest known key, is appended here.

    Returns:
        The copy with the values.

    Example:
        >>> override = Override("", "optimizer.lr", ("0.1",), is_group=False)
        >>> set_values({"optimizer": {"lr": 0.05}}, [override], set(), [])
        {'optimizer': {'lr': 0.1}}
    """
    changed = dict(config)
    copied: set[str] = set()
    for override in overrides:
        if override.prefix == REMOVE:
            top = override.key.partition(".")[0]
            if top not in ignored:
                changed[top] = copy.deepcopy(changed.get(top))
                copied.add(top)
                problems += _remove(changed, override.key)
            continue
        value = parse_value(override.values[0])
        leaves = [(override.key, value)]
        if isinstance(value, Mapping) and not _is_parameter(changed, override.key):
            leaves = flatten(value, f"{override.key}.") or leaves
        for key, leaf in leaves:
            top = key.partition(".")[0]
            if top in NOT_SETTABLE:
                problems.append(f"{key} cannot be set: {NOT_SETTABLE[top]}")
            elif top not in ignored:
                if top in changed and top not in copied:
                    changed[top] = copy.deepcopy(changed[top])
                    copied.add(top)
                problems += _set_value(changed, key, override.prefix, leaf)
    return changed


def _remove(config: dict[str, Any], key: str) -> list[str]:
    """Remove one key of a class, in place, so that the class has its own default; or a node."""
    if problem := unknown_key_message(config, key):
        return [f"~{problem[:1].lower()}{problem[1:]}" if problem.startswith(key) else problem]
    parent, _, leaf = key.rpartition(".")
    if not parent:
        if key != "scheduler":
            return [f"~{key}: a run needs it. See `mla train --cfg`."]
        config[key] = None
        return []
    node: Any = config
    for name in parent.split("."):
        node = node[name]
    if TARGET not in node and parent not in ("callbacks", "logger"):
        return [
            f"~{key}: only the settings of a class can be removed, and {parent} names none. "
            f"Write {key}=null if it is optional."
        ]
    if leaf in (TARGET, PARTIAL):
        return [f"~{key}: it names the class; choose another one in its place"]
    del node[leaf]
    return []


def tuned_values(config: Mapping[str, Any], set_keys: set[str]) -> tuple[list[Override], list[str]]:
    """Return the values that a recipe of ``mla tune`` has for the method of a config.

    Args:
        config: The composed config, unresolved.
        set_keys: Keys that the user sets, which win. The values of an optimiser do not hold for
            another one that the user chooses.

    Returns:
        Overrides, and a problem if a method that takes optimisation steps has no values.

    Example:
        >>> config = {"choices": {"method": "mla"}, "tuned": {"mla": {"optimizer.lr": 0.1}}}
        >>> [override.texts() for override in tuned_values(config, set())[0]]
        [['optimizer.lr=0.1']]
        >>> tuned_values(config, {"optimizer.lr"})
        ([], [])
    """
    method = config["choices"]["method"]
    tuned = config.get("tuned")
    if not isinstance(tuned, Mapping):
        return [], []
    if method not in tuned:
        if not takes_steps(config):  # such as majority, which has nothing to tune
            return [], []
        return [], [
            f"recipe={config['choices'].get('recipe')} has no values for method={method}, only for "
            f"{', '.join(map(str, tuned)) or 'none'}. Search them: mla tune ... method={method}"
        ]
    replaced = {group for group in ("optimizer", "scheduler") if group in config["choices"]}
    values = {
        key: value
        for key, value in tuned[method].items()
        if key not in set_keys and key.partition(".")[0] not in replaced
    }
    return [
        Override("", key, (format_override_value(value),), is_group=False)
        for key, value in values.items()
    ], []


def flatten(node: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Flatten nested mappings to dotted keys.

    Args:
        node: Plain containers.
        prefix: Text before every key.

    Returns:
        Dotted keys and values; an empty mapping is a value.

    Example:
        >>> flatten({"data": {"path": "x", "options": {}}, "seed": 0})
        [('data.path', 'x'), ('data.options', {}), ('seed', 0)]
    """
    leaves = []
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            leaves += flatten(value, f"{prefix}{name}.")
        else:
            leaves.append((f"{prefix}{name}", value))
    return leaves


def unknown_key_message(config: Mapping[str, Any], key: str) -> str | None:
    """Return the error message for a key that a config does not have.

    Args:
        config: A composed config.
        key: The dotted key.

    Returns:
        The message, with the nearest known key; None if the config has the key.

    Example:
        >>> config = {"optimizer": {"lr": 0.1, "momentum": 0.9}, "seed": 0}
        >>> unknown_key_message(config, "lr")
        "Unknown key 'lr'. Did you mean 'optimizer.lr'?"
        >>> unknown_key_message(config, "optimizer.momentun")
        "Unknown key 'optimizer.momentun'. Did you mean 'optimizer.momentum'? Keys of optimizer: lr,
         momentum."
    """
    if key in INSTEAD:
        return f"{key} is not a setting: {INSTEAD[key]}"
    if key.startswith(tuple(f"{name}." for name in OPEN)) and "options" in config["launcher"]:
        return None
    node: Any = config
    parts = key.split(".")
    depth = 0
    while depth < len(parts) and isinstance(node, Mapping) and parts[depth] in node:
        node = node[parts[depth]]
        depth += 1
    if depth == len(parts):
        return None
    parent, rest = ".".join(parts[:depth]), parts[depth + 1 :]
    if not isinstance(node, Mapping):
        kind = "null" if node is None else "a single value"
        return f"Unknown key {key!r}: {parent} is {kind} and has no keys."
    known = [str(name) for name in node if not str(name).startswith("_")]
    if not node and depth == 1:
        return (
            f"Unknown key {key!r}: {parent}={config['choices'].get(parent)} has no settings. "
            f"Choose another option with {parent}=...; `mla list {parent}` lists them."
        )
    close = difflib.get_close_matches(parts[depth], known, n=1, cutoff=0.6)
    exact = _suggest_by_last_name(config, key, cutoff=1.0) if len(parts) == 1 else ""
    if exact:
        hint = exact  # `path` suggests `data.path` rather than `paths`
    elif close:
        hint = f" Did you mean {'.'.join([*parts[:depth], close[0], *rest])!r}?"
    else:
        hint = _suggest_by_last_name(config, parts[-1])
    listed = f" Keys of {parent}: {', '.join(known)}." if parent and known else ""
    added = f" +{key}=... adds a key that its YAML does not list." if TARGET in node else ""
    return f"Unknown key {key!r}.{hint}{listed}{added}"


def _suggest_by_last_name(config: Mapping[str, Any], name: str, cutoff: float = 0.75) -> str:
    """Suggest a dotted key by its last name, so that ``lr`` suggests ``optimizer.lr``."""
    keys: dict[str, str] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, Mapping):
            for last_name, value in node.items():
                key = f"{path}.{last_name}" if path else str(last_name)
                keys.setdefault(str(last_name), key)
                walk(value, key)

    walk({k: v for k, v in config.items() if k not in NOT_SETTABLE}, "")
    close = difflib.get_close_matches(name, keys, n=1, cutoff=cutoff)
    return f" Did you mean {keys[close[0]]!r}?" if close else ""


def _is_parameter(config: Mapping[str, Any], key: str) -> bool:
    """Return whether a key is a class's parameter that holds no mapping yet.

    A mapping given for such a key replaces its value; for any other key it is merged.
    """
    node: Any = config
    parent, _, leaf = key.rpartition(".")
    for name in parent.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping) or TARGET not in node or leaf not in node:
        return False
    return not isinstance(node[leaf], Mapping)


def _set_value(config: dict[str, Any], key: str, prefix: str, value: Any) -> list[str]:
    """Set one value in place; return problems instead where that is not possible."""
    problem = unknown_key_message(config, key)
    parent, _, leaf = key.rpartition(".")
    if problem is not None and (not prefix or key in INSTEAD):
        return [problem]
    if problem is not None and parent.partition(".")[0] not in config:
        return [f"{prefix}{key}: nothing reads {key!r}"]
    if problem is None and prefix == "+":
        return [f"+{key}: the key exists already; write {key}=... to change it"]
    node: Any = config
    for name in parent.split(".") if parent else []:
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            return [str(problem)]
    node[leaf] = value
    return []
