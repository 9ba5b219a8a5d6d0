"""How the inputs of a store were made, and what differs between those of two stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Modality of all columns of numbers and categories of a table; its values are named in the
#: manifest's options, under the same name.
TABULAR_NAME = "tabular"
#: Kinds of arrays whose first axis is a number of steps or tokens that encoders do not depend on.
_OF_ANY_LENGTH = ("features", "tokens")
_MAX_LISTED = 5


def stored_inputs(manifest: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, Any]:
    """Return how the inputs of modalities were made, for the record of a run.

    Args:
        manifest: The manifest of a store.
        modalities: The modalities.

    Returns:
        Modality -> ``kind`` of its array, ``options`` of its extractor, ``shape`` of a sample, and
        of the modality ``tabular`` of a table ``values``, the meaning of its values; JSON-able.

    Example:
        >>> manifest = {
        ...     "modalities": {"tabular": {"kind": "features", "options": {}}},
        ...     "arrays": {"tabular.npy": {"shape": [40, 2]}},
        ...     "options": {"tabular": ["age", "sex=f"]}}
        >>> stored_inputs(manifest, ["tabular"])
        {'tabular': {'kind': 'features', 'options': {}, 'shape': [2], 'values': ['age', 'sex=f']}}
    """
    entries: dict[str, Any] = {}
    for name in modalities:
        entry = manifest["modalities"][name]
        shape = list(manifest["arrays"][f"{name}.npy"]["shape"][1:])
        options = dict(entry.get("options") or {})
        entries[name] = {"kind": entry["kind"], "options": options, "shape": shape}
        values = manifest.get("options", {}).get(TABULAR_NAME)
        if name == TABULAR_NAME and isinstance(values, list):
            entries[name]["values"] = [str(value) for value in values]
    return entries


def input_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what makes the inputs of a store others than those of an earlier one.

    The number of steps of sequences and of token ids that came as arrays may differ: the padding
    at their end has no effect on encoders.

    Args:
        before: The earlier store's inputs, as :func:`stored_inputs` returns them.
        now: The store's inputs; modalities that the earlier one does not have are not compared.

    Returns:
        A clause per difference; empty if there is none.

    Example:
        >>> def store(size, *values):
        ...     options = {"extractor": "image", "size": size}
        ...     picture = {"kind": "image", "options": options, "shape": [3, size, size]}
        ...     tabular = {"kind": "features", "options": {}, "shape": [2], "values": [*values]}
        ...     return {"picture": picture, "tabular": tabular}
        >>> for clause in input_differences(store(32, "age", "sex=f"), store(64, "age", "sex=m")):
        ...     print(clause)
        'picture': size was 32, now it is 64
        'tabular': it has no value 'sex=f', and 'sex=m' is new
        >>> input_differences(store(32, "a=x", "a=y"), store(32, "a=y", "a=x"))
        ["'tabular': its values are in another order"]
        >>> input_differences(store(32, "age"), store(32, "age"))
        []
    """
    differences = []
    for name, entry in now.items():
        if (earlier := before.get(name)) is None:
            continue
        clause = (
            _values_clause(earlier.get("values"), entry.get("values"))
            or _options_clause(earlier["options"], entry["options"])
            or _array_clause(earlier, entry)
        )
        if clause:
            differences.append(f"{name!r}: {clause}")
    return differences


def _values_clause(before: Sequence[str] | None, now: Sequence[str] | None) -> str:
    if before is None or now is None or before == now:
        return ""
    clauses = []
    if lost := [name for name in before if name not in set(now)]:
        clauses.append(f"it has no value {_listed(lost)}")
    if new := [name for name in now if name not in set(before)]:
        clauses.append(f"{_listed(new)} {'is' if len(new) == 1 else 'are'} new")
    return ", and ".join(clauses) or "its values are in another order"


def _options_clause(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Describe which options differ; those of an array of the user are empty."""
    clauses = []
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if old != new:
            is_long = max(len(str(old)), len(str(new))) > 40
            clauses.append(f"{key} differs" if is_long else f"{key} was {old}, now it is {new}")
    return "; ".join(clauses)


def _array_clause(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if before["kind"] != now["kind"]:
        return f"it was {before['kind']}, now it is {now['kind']}"
    old, new = tuple(before["shape"]), tuple(now["shape"])
    first = len(old) - 1 if now["kind"] in _OF_ANY_LENGTH else 0
    if now["kind"] == "tokens" or (len(old) == len(new) and old[first:] == new[first:]):
        return ""
    return f"the shape of a sample was {old}, now it is {new}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(map(repr, names[:_MAX_LISTED])) + more
