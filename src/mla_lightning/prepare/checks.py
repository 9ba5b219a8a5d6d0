"""Checks of a source before its files are read, and the identity of the store made of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.data.manifest import check_file_names
from mla_lightning.data.sources.base import Item, Source
from mla_lightning.errors import DataError, near
from mla_lightning.media.base import ArrayInput, Extractor, FileInput, MediaInput, TextInput
from mla_lightning.media.embedded import EmbeddedInput
from mla_lightning.media.files import is_lfs_pointer
from mla_lightning.paths import command
from mla_lightning.run_folder.tasks import CLASSIFICATION


def checked_items(source: Source) -> list[Item]:
    """List a source's items and check them against the source's attributes.

    Args:
        source: The source.

    Returns:
        The items, sorted by id.

    Raises:
        DataError: If there are no items, two have the same id, a label or modality is unknown, an
            item has no modality, a file is outside of ``raw``, a name cannot be that of a file, or
            the splits do not fit.
    """
    names = {"data set": [source.name], "modality": source.modalities}
    check_file_names(names, str(source.raw or source.name))
    items = sorted(source.items(), key=lambda item: item.id)
    if not items:
        raise DataError(f"{source.name}: no items were found in {source.raw}. {source.how_to_get}")
    class_names = set(source.class_names)
    for number, item in enumerate(items):
        if number and item.id == items[number - 1].id:
            raise DataError(f"{source.name}: two items have the id {item.id!r}")
        is_class = source.task == CLASSIFICATION and class_names
        if is_class and item.label not in class_names:
            raise DataError(
                f"{source.name}, {item.id}: unknown label {item.label!r}."
                f"{near(item.label, class_names)} Known: {', '.join(source.class_names)}."
            )
        if not item.inputs:
            raise DataError(f"{source.name}, {item.id}: has none of {', '.join(source.modalities)}")
        check_file_names({"attribute": item.attributes}, f"{source.name}, {item.id}")
        for modality, media_input in item.inputs.items():
            if source.stays_in_raw and isinstance(media_input, FileInput):
                _check_is_inside(source, item, media_input)
            if modality not in source.modalities:
                raise DataError(
                    f"{source.name}, {item.id}: unknown modality {modality!r}."
                    f"{near(modality, source.modalities)}"
                )
    # A list file that does not fit is reported now rather than after hours of reading.
    splits = source.splits(items)
    check_file_names({"split": splits}, source.name)
    if source.default_split not in splits:
        raise DataError(
            f"{source.name}: no split {source.default_split!r}, the default one."
            f"{near(source.default_split, splits)} There are: {', '.join(splits)}."
        )
    return items


def check_lfs_pointers(raw: Path, items: Sequence[Item]) -> None:
    """Check that most files are not pointers of Git LFS, before any of them is read.

    A few pointers are listed with the other files that cannot be read.

    Args:
        raw: The folder of the files.
        items: The items.

    Raises:
        DataError: If more than half of them are; with their number and the command that gets
            them.
    """
    inputs = [media_input for item in items for media_input in item.inputs.values()]
    paths = dict.fromkeys(raw / file.path for file in inputs if isinstance(file, FileInput))
    pointers = []
    for path in paths:
        with contextlib.suppress(OSError):  # of files that are missing, which are listed later
            if is_lfs_pointer(path):
                pointers.append(path)
    if 2 * len(pointers) > len(paths):
        raise DataError(
            f"{len(pointers)} of {len(paths)} files are only pointers of Git LFS, such as "
            f"{pointers[0]}. Get the files: {command('git', '-C', raw, 'lfs', 'pull')}"
        )


def _check_is_inside(source: Source, item: Item, file: FileInput) -> None:
    """Check that a file that an official list names is below the folder of the official files."""
    if file.path.is_absolute() or ".." in file.path.parts:
        raise DataError(
            f"{source.name}, {item.id}: {file.path} leads out of {source.raw}. No official list "
            "has such a file; get the files again from their authors"
        )


def describe_identity(
    source: Source, items: Sequence[Item], extractors: Mapping[str, Extractor]
) -> dict[str, Any]:
    """Return the identity of a store; two stores with the same identity are equal.

    Args:
        source: The source.
        items: Its items.
        extractors: Modality -> extractor.

    Returns:
        JSON-able: name, classes, options, and a hash of the items.

    Raises:
        DataError: If modalities and extractors differ.
    """
    if set(extractors) != set(source.modalities):
        raise DataError(
            f"{source.name} reads {', '.join(extractors)}, but has {', '.join(source.modalities)}"
        )
    digest = hashlib.sha256()
    for item in items:
        inputs = {modality: _as_json(value) for modality, value in item.inputs.items()}
        entry = [item.id, item.label, inputs, dict(item.attributes)]
        digest.update(json.dumps(entry, sort_keys=True).encode() + b"\n")
    identity = {
        "name": source.name,
        **({"task": source.task} if source.task != CLASSIFICATION else {}),
        "class_names": list(source.class_names),
        "options": dict(source.options()),
        "modalities": {m: extractor.options() for m, extractor in extractors.items()},
        "items": len(items),
        "items_sha256": digest.hexdigest(),
    }
    # To JSON and back, so that tuples are lists as in an identity read from a file.
    as_json: dict[str, Any] = json.loads(json.dumps(identity))
    return as_json


def _as_json(media_input: MediaInput) -> list[Any]:
    match media_input:
        case EmbeddedInput():  # its bytes, wherever they are
            return ["bytes", media_input.sha256]
        case FileInput():
            path = media_input.path.as_posix()
            return ["file", path, media_input.start_s, media_input.end_s]
        case TextInput():
            return ["text", media_input.text]
        case ArrayInput():
            values = np.ascontiguousarray(media_input.values)
            sha256 = hashlib.sha256(values.tobytes()).hexdigest()
            return ["array", values.dtype.str, list(values.shape), sha256]
