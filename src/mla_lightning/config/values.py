"""Set single values in a composed config, and name the right key where one is not there."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from typing import Any

from mla_lightning.config.overrides import Override, value_of
from mla_lightning.config.settings import INSTEAD
from mla_lightning.config.targets import TARGET

#: Filled in or used up while composing.
NOT_SETTABLE = {
    "choices": "it is filled in from the groups: write method=..., data=...",
    "tuned_lr": "write optimizer.lr=...",
    "metrics": "all of conf/metric/ are computed; add yours to a metric/ folder of --config-dir",
    "grid": "write the values of a key, such as seed=0,1,2, to replace the experiment's",
}


def with_values(
    config: Mapping[str, Any], overrides: list[Override], ignored: set[str], faults: list[str]
) -> dict[str, Any]:
    """Set values in a composed config.

    Args:
        config: The composed config, unresolved; it is left as it is.
        overrides: Overrides of values, one value each.
        ignored: Top-level keys whose choice is unknown, so that nothing can be said below them.
        faults: Unknown keys are added here, each with the nearest right name.

    Returns:
        A copy with the values.
    """
    changed = copy.deepcopy(dict(config))
    for override in overrides:
        value = value_of(override.values[0])
        leaves = [(override.key, value)]
        if isinstance(value, Mapping) and not _is_parameter(changed, override.key):
            leaves = flatten(value, f"{override.key}.") or leaves
        for key, leaf in leaves:
            top = key.partition(".")[0]
            if top in NOT_SETTABLE:
                faults.append(f"{key} cannot be set: {NOT_SETTABLE[top]}")
            elif top not in ignored:
                faults += _set(changed, key, override.prefix, leaf)
    return changed


def flatten(node: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Split a mapping into its leaves.

    Args:
        node: Plain containers.
        prefix: What the keys begin with.

    Returns:
        Dotted key and value; an empty mapping is a leaf.
    """
    leaves = []
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            leaves += flatten(value, f"{prefix}{name}.")
        else:
            leaves.append((f"{prefix}{name}", value))
    return leaves


def unknown_key(config: Mapping[str, Any], key: str) -> str | None:
    """Word the fault of a key that is not there.

    Args:
        config: A composed config.
        key: The dotted key.

    Returns:
        The fault with the nearest right name, or None if the key is there.
    """
    if key in INSTEAD:
        return f"{key} is no setting: {INSTEAD[key]}"
    node: Any = config
    parts = key.split(".")
    depth = 0
    while depth < len(parts) and isinstance(node, Mapping) and parts[depth] in node:
        node = node[parts[depth]]
        depth += 1
    if depth == len(parts):
        return None
    above, rest = ".".join(parts[:depth]), parts[depth + 1 :]
    if not isinstance(node, Mapping):
        kind = "null" if node is None else "a value"
        return f"Unknown key {key!r}: {above} is {kind}, it has no keys."
    known = [str(name) for name in node if not str(name).startswith("_")]
    if not node and depth == 1:
        return (
            f"Unknown key {key!r}: {above}={config['choices'].get(above)} has no settings. Choose "
            f"another with {above}=...; `mla list {above}` shows which there are."
        )
    close = difflib.get_close_matches(parts[depth], known, n=1, cutoff=0.6)
    exact = _same_leaf(config, key, cutoff=1.0) if len(parts) == 1 else ""
    if exact:
        hint = exact  # `path` is rather `data.path` than `paths`
    elif close:
        hint = f" Did you mean {'.'.join([*parts[:depth], close[0], *rest])!r}?"
    else:
        hint = _same_leaf(config, parts[-1])
    listed = f" Keys of {above}: {', '.join(known)}." if above and known else ""
    added = f" +{key}=... adds one that its YAML does not list." if TARGET in node else ""
    return f"Unknown key {key!r}.{hint}{listed}{added}"


def _same_leaf(config: Mapping[str, Any], leaf: str, cutoff: float = 0.75) -> str:
    """Suggest a dotted key by its last name, so that ``lr`` finds ``optimizer.lr``."""
    leaves: dict[str, str] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, Mapping):
            for name, value in node.items():
                at = f"{path}.{name}" if path else str(name)
                leaves.setdefault(str(name), at)
                walk(value, at)

    walk({k: v for k, v in config.items() if k not in NOT_SETTABLE}, "")
    close = difflib.get_close_matches(leaf, leaves, n=1, cutoff=cutoff)
    return f" Did you mean {leaves[close[0]]!r}?" if close else ""


def _is_parameter(config: Mapping[str, Any], key: str) -> bool:
    """Whether a class takes the key and it holds no mapping yet: then one takes its place."""
    node: Any = config
    above, _, leaf = key.rpartition(".")
    for part in above.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping) or TARGET not in node or leaf not in node:
        return False
    return not isinstance(node[leaf], Mapping)


def _set(config: dict[str, Any], key: str, prefix: str, value: Any) -> list[str]:
    """Set one value in place; returns what is wrong with it."""
    fault = unknown_key(config, key)
    above, _, leaf = key.rpartition(".")
    if fault is not None and (not prefix or key in INSTEAD):
        return [fault]
    if fault is not None and above.partition(".")[0] not in config:
        return [f"{prefix}{key}: nothing reads {key!r}"]
    if fault is None and prefix == "+":
        return [f"+{key}: the key is there; write {key}=... to change it"]
    node: Any = config
    for part in above.split(".") if above else []:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            return [str(fault)]
    node[leaf] = value
    return []
