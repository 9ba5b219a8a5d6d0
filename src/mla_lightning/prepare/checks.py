"""What is checked of a source before anything is read, and what makes its store what it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.errors import DataError, near
from mla_lightning.media.base import ArrayInput, Extractor, FileInput, MediaInput, TextInput


def checked_items(source: Source) -> list[Item]:
    """List a source's items and check that they agree with what it says of itself.

    Args:
        source: The source.

    Returns:
        The items, sorted by id.

    Raises:
        DataError: If there are none, two have one id, a label or modality is unknown, an item has
            no modality, or the splits do not fit.
    """
    items = sorted(source.items(), key=lambda item: item.id)
    if not items:
        raise DataError(f"{source.name}: no items were found in {source.raw}. {source.how_to_get}")
    known = set(source.class_names)
    for number, item in enumerate(items):
        if number and item.id == items[number - 1].id:
            raise DataError(f"{source.name}: two items are called {item.id!r}")
        if item.label not in known:
            raise DataError(
                f"{source.name}, {item.id}: unknown label {item.label!r}."
                f"{near(item.label, known)} Known: {', '.join(source.class_names)}."
            )
        if not item.inputs:
            raise DataError(f"{source.name}, {item.id}: has none of {', '.join(source.modalities)}")
        for modality in item.inputs:
            if modality not in source.modalities:
                raise DataError(
                    f"{source.name}, {item.id}: unknown modality {modality!r}."
                    f"{near(modality, source.modalities)}"
                )
    # Hours are saved if a list file that does not fit is found now.
    splits = source.splits(items)
    if source.default_split not in splits:
        raise DataError(
            f"{source.name}: no split {source.default_split!r}, the default one."
            f"{near(source.default_split, splits)} There are: {', '.join(splits)}."
        )
    return items


def describe_identity(
    source: Source, items: Sequence[Item], extractors: Mapping[str, Extractor]
) -> dict[str, Any]:
    """Spell what makes a store what it is; two stores with the same are the same.

    Args:
        source: The source.
        items: Its items.
        extractors: Modality -> extractor.

    Returns:
        JSON-able: name, classes, options, and a hash over the items.

    Raises:
        DataError: If modalities and extractors differ.
    """
    if set(extractors) != set(source.modalities):
        raise DataError(
            f"{source.name} reads {', '.join(extractors)}, but has {', '.join(source.modalities)}"
        )
    digest = hashlib.sha256()
    for item in items:
        parts = {modality: _spelled(part) for modality, part in item.inputs.items()}
        entry = [item.id, item.label, parts, dict(item.attributes)]
        digest.update(json.dumps(entry, sort_keys=True).encode() + b"\n")
    identity = {
        "name": source.name,
        "class_names": list(source.class_names),
        "options": dict(source.options()),
        "modalities": {m: extractor.options() for m, extractor in extractors.items()},
        "items": len(items),
        "items_sha256": digest.hexdigest(),
    }
    # As it comes back from a file, where tuples are lists.
    spelled: dict[str, Any] = json.loads(json.dumps(identity))
    return spelled


def _spelled(part: MediaInput) -> list[Any]:
    match part:
        case FileInput():
            return ["file", part.path.as_posix(), part.start_s, part.end_s]
        case TextInput():
            return ["text", part.text]
        case ArrayInput():
            values = np.ascontiguousarray(part.values)
            sha256 = hashlib.sha256(values.tobytes()).hexdigest()
            return ["array", values.dtype.str, list(values.shape), sha256]
