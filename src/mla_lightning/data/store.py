"""Prepared stores: folders of arrays, with a manifest that describes them.

Format 1. Arrays are ``.npy`` files with one row per sample, in the order of ``id.npy``; the
manifest is written last, so its presence means that the store is complete. See ``docs/store.md``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.data.contents import changed_files, sha256_of
from mla_lightning.data.manifest import (
    FORMAT,
    MANIFEST,
    SOURCES,
    VERSION,
    array_hashes,
    changed_message,
    check_arrays,
    check_file_names,
    is_labelled,
    read_manifest,
    task_of,
)
from mla_lightning.data.mapped import MappedArray, RowBlocks, open_array, row_ranges, write_rows
from mla_lightning.data.splits import TEST, TRAIN, UNUSED, VAL, NamedSplit, overlap
from mla_lightning.data.store_problems import find_problems
from mla_lightning.data.targets import TARGETS
from mla_lightning.data.temporary import check_free, new_folder
from mla_lightning.errors import DataError, near
from mla_lightning.inputs.features import Features
from mla_lightning.run_folder import write_json
from mla_lightning.run_folder.tasks import CLASSIFICATION

#: Number of values shared by train and test that the manifest lists; it counts all of them.
_MAX_LISTED = 20


class OpenStore:
    """A store that is open for reading; see :func:`open_store`.

    Attributes:
        folder: Its folder.
        manifest: Its description; see ``docs/store.md``.
        label: (N,) int64, from 0 to the number of classes minus 1; of regression (N,) float64, of
            several labels (N, L) uint8.
        ids: (N,) unique names.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        """Read labels and ids, without the checks of :func:`open_store`."""
        self.folder, self.manifest = folder, manifest
        self.label: np.ndarray = np.load(folder / "label.npy")
        #: Version of the encoders and epochs of runs that name none; 1 in earlier stores.
        self.defaults = int(self.manifest.get("defaults", 1))
        self.ids: list[str] = np.load(folder / "id.npy").tolist()

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.label)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, in order."""
        return tuple(self.manifest["modalities"])

    @property
    def task(self) -> str:
        """The task: classification, regression or multilabel."""
        return task_of(self.manifest, str(self.folder))

    @property
    def is_labelled(self) -> bool:
        """Whether the samples have labels."""
        return is_labelled(self.manifest)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the hashes of all arrays except the splits, and of scales; none is read."""
        hashes = {
            file: entry["sha256"]
            for file, entry in self.manifest["arrays"].items()
            if not file.startswith("split.")
        }
        entries = self.manifest["modalities"]
        scales = {m: entry["scale"] for m, entry in entries.items() if entry.get("scale")}
        content = [self.manifest["class_names"], hashes, *([scales] if scales else [])]
        content += [self.task] if self.task != CLASSIFICATION else []
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def array(self, modality: str) -> MappedArray:
        """Open a modality's rows."""
        return MappedArray(self.folder / f"{modality}.npy")

    def present(self, modality: str) -> np.ndarray | None:
        """Read in which samples a modality is present: (N,) bool, None if in all."""
        file = f"{modality}.present.npy"
        return np.load(self.folder / file) if file in self.manifest["arrays"] else None

    def attribute(self, name: str) -> list[str]:
        """Read an attribute of the samples, such as their speaker: (N,) texts."""
        return np.load(self.folder / f"attribute.{name}.npy").tolist()

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes of the samples."""
        files = sorted(f for f in self.manifest["arrays"] if f.startswith("attribute."))
        return tuple(file.removeprefix("attribute.").removesuffix(".npy") for file in files)

    def split(self, name: str) -> np.ndarray:
        """Read a named split: (N,) int8, 0 train, 1 validation, 2 test, -1 unused.

        Raises:
            DataError: If it is unknown.
        """
        known = self.manifest["splits"]
        if name not in known:
            raise DataError(
                f"{self.folder} has no split {name!r}.{near(name, known)} "
                f"Known: {', '.join(known)}."
            )
        return np.load(self.folder / f"split.{name}.npy")


def open_store(folder: Path) -> OpenStore:
    """Open a store, after a comparison of its arrays with their hashes.

    An array that has not changed since it was compared is not read again.

    Args:
        folder: The folder.

    Returns:
        The store; of its arrays only labels and ids are in memory.

    Raises:
        DataError: If the folder is not a store, or the store is incomplete, damaged or of a later
            format, or an array is missing, of another type or shape, or of another hash.

    Example:
        >>> import tempfile, torch
        >>> arrays = {"audio": np.arange(8.0, dtype=np.float32).reshape(4, 2)}
        >>> splits = {"random": NamedSplit(np.array([0, 0, 1, 2]), "Drawn at random.")}
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     write_store(Path(parent, "toy"), name="toy", class_names=["cat", "dog"],
        ...                 ids=["d", "c", "b", "a"], label=[0, 1, 1, 0], arrays=arrays,
        ...                 kinds={"audio": "features"}, splits=splits)
        ...     store = open_store(Path(parent, "toy"))
        ...     audio = store.array("audio").index_select(0, torch.tensor([0]))
        >>> store.ids, audio, store.manifest["splits"]["random"]["sizes"]
        (['a', 'b', 'c', 'd'], tensor([[6., 7.]]), [2, 1, 1])
    """
    manifest = read_manifest(folder)
    hashes = array_hashes(folder, manifest)
    check_arrays(folder, manifest)
    if changed := changed_files(folder, hashes):
        raise DataError(changed_message(folder, manifest, changed))
    return OpenStore(folder, manifest)


def write_store(
    folder: Path,
    *,
    name: str,
    class_names: Sequence[str],
    ids: Sequence[str],
    label: Sequence[int] | np.ndarray,
    arrays: Mapping[str, np.ndarray | RowBlocks],
    kinds: Mapping[str, str],
    splits: Mapping[str, NamedSplit],
    default_split: str | None = None,
    present: Mapping[str, np.ndarray] | None = None,
    attributes: Mapping[str, Sequence[str]] | None = None,
    scale: str | None = None,
    task: str = CLASSIFICATION,
    complete: Callable[[Path], object] = lambda _: None,
    **metadata: Any,
) -> None:
    """Write a store of arrays, in memory or produced in blocks of rows.

    Args:
        folder: The new folder; it must not exist.
        name: Name of the data set.
        class_names: The classes or labels, in the order of the labels; () for regression.
        ids: (N,) unique names; rows are sorted by them.
        label: (N,) class numbers or targets, or (N, L) of 0 and 1.
        arrays: Modality -> (N, ...), or rows that are produced in blocks.
        kinds: Modality -> ``frames``, ``image``, ``spectrogram``, ``tokens`` or ``features``.
        splits: Name -> split.
        default_split: The one used unless another is chosen; the first by default.
        present: Modality -> (N,) bool, for modalities that are absent from some sample.
        attributes: Name -> (N,) texts.
        scale: How runs scale the columns of features unless ``data.scale`` says otherwise, such as
            ``standard``; None to leave them as they are.
        task: ``classification``, ``regression`` or ``multilabel``.
        complete: Adds further files to the store's folder before it gets its name.
        **metadata: Further arguments of :func:`finish_store`.

    Raises:
        DataError: If lengths differ, or for the reasons of :func:`finish_store`; no files are left.
    """
    check_free(folder)
    names = {"data set": [name], "modality": arrays, "split": splits, "attribute": attributes or ()}
    check_file_names(names, str(folder))
    columns: dict[str, Any] = {"id": np.asarray(ids, dtype=str), "label": np.asarray(label)}
    columns |= {m: v if isinstance(v, RowBlocks) else np.asarray(v) for m, v in arrays.items()}
    columns |= {f"{m}.present": np.asarray(v, dtype=bool) for m, v in (present or {}).items()}
    columns |= {f"attribute.{n}": np.asarray(v, dtype=str) for n, v in (attributes or {}).items()}
    codes = {key: replace(split, codes=np.asarray(split.codes)) for key, split in splits.items()}
    lengths = {key: len(values) for key, values in columns.items()}
    lengths |= {f"split {key}": len(split.codes) for key, split in codes.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise DataError(f"{name}: the lengths differ: {listed}")
    order = np.argsort(columns["id"], kind="stable")
    positions = np.argsort(order, kind="stable")  # of each sample in the store
    with new_folder(folder) as temporary:
        for key, values in columns.items():
            values = values.astype(TARGETS[task].dtype) if key == "label" else values
            write_rows(temporary / f"{key}.npy", _as_blocks(values), positions)
        finish_store(
            temporary,
            name=name,
            class_names=class_names,
            modalities={
                modality: modality_entry(kinds[modality], {}, scale) for modality in arrays
            },
            splits={key: replace(split, codes=split.codes[order]) for key, split in codes.items()},
            default_split=default_split or next(iter(splits)),
            task=task,
            **metadata,
        )
        complete(temporary)


def finish_store(
    folder: Path,
    *,
    name: str,
    class_names: Sequence[str],
    modalities: Mapping[str, Mapping[str, Any]],
    splits: Mapping[str, NamedSplit],
    default_split: str,
    options: Mapping[str, Any] | None = None,
    sources: Sequence[Mapping[str, Any]] = (),
    failures: Sequence[Mapping[str, Any]] = (),
    versions: Mapping[str, str] | None = None,
    task: str = CLASSIFICATION,
    defaults: int = 1,
    files: Sequence[str] = (),
) -> None:
    """Complete a store whose arrays are in its folder: check them, add splits and the manifest.

    Args:
        folder: The folder, with ``label.npy``, ``id.npy`` and an array per modality.
        name: Name of the data set.
        class_names: The classes or labels, in the order of the labels; () for regression.
        modalities: Modality -> ``kind``, and ``options`` of its extractor.
        splits: Name -> split.
        default_split: The one used unless another is chosen.
        options: Options of the data set that changed its samples.
        sources: ``file``, ``bytes`` and ``sha256`` or ``failure`` of every source file.
        failures: ``id``, ``file`` and ``reason`` of the samples that are not in the store.
        versions: Versions of the libraries that wrote the arrays.
        task: ``classification``, ``regression`` or ``multilabel``.
        defaults: Version of the encoders and epochs of runs that name none, see
            :mod:`mla_lightning.data.default_encoders`.
        files: Names of further files in the folder, whose hashes the manifest has.

    Raises:
        DataError: If ids are not unique and sorted, a label or split is out of range, train, val or
            test is empty, a type is not allowed, or a value is not finite.
    """
    for key, split in splits.items():
        if not np.isin(split.codes, (TRAIN, VAL, TEST, UNUSED)).all():
            raise DataError(
                f"{name}: the split {key!r} does not fit: it holds other codes than -1 to 2"
            )
        np.save(folder / f"split.{key}.npy", np.asarray(split.codes, dtype=np.int8))
    text = json.dumps(list(sources), indent=1, ensure_ascii=False)
    (folder / SOURCES).write_text(text + "\n", encoding="utf-8")
    if problems := [*find_problems(folder, class_names, tuple(modalities), tuple(splits), task)]:
        raise DataError(f"{name}: {'; '.join(problems)}")
    attributes = {
        path.name.removeprefix("attribute.").removesuffix(".npy"): np.load(path)
        for path in sorted(folder.glob("attribute.*.npy"))
    }
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        **({"task": task} if task != CLASSIFICATION else {}),
        **({"defaults": defaults} if defaults > 1 else {}),
        "class_names": list(class_names),
        "modalities": {key: dict(entry) for key, entry in modalities.items()},
        "splits": {key: _split_entry(split, attributes) for key, split in splits.items()},
        "default_split": default_split,
        "options": dict(options or {}),
        "versions": dict(versions or {}),
        "arrays": {path.name: _array_entry(path) for path in sorted(folder.glob("*.npy"))},
        **({"files": {name: sha256_of(folder / name) for name in files}} if files else {}),
        "sources": {
            "sha256": sha256_of(folder / SOURCES),
            "num_files": len(sources),
            "failures": sum("failure" in entry for entry in sources),
        },
        "failures": [dict(entry) for entry in failures],
    }
    write_json(folder / MANIFEST, manifest)


def modality_entry(kind: str, options: Mapping[str, Any], scale: str | None) -> dict[str, Any]:
    """Return the entry of a modality in a manifest.

    Args:
        kind: Kind of its array.
        options: Options of its extractor.
        scale: How runs scale the columns of features; None to leave them as they are.

    Example:
        >>> modality_entry("features", {}, "standard")
        {'kind': 'features', 'options': {}, 'scale': 'standard'}
        >>> modality_entry("tokens", {}, "standard")
        {'kind': 'tokens', 'options': {}}
    """
    is_scaled = scale is not None and kind in Features.kinds
    return {"kind": kind, "options": dict(options)} | ({"scale": scale} if is_scaled else {})


def verify_store(folder: Path) -> list[str]:
    """Compare every byte of a store with its manifest.

    Args:
        folder: The store.

    Returns:
        A sentence per problem; empty if there is none.

    Raises:
        DataError: If the folder is not a store of this format, or its manifest is damaged.
    """
    manifest = read_manifest(folder)
    hashes = array_hashes(folder, manifest)
    check_file_names({"file": manifest.get("files", {})}, str(folder / MANIFEST))
    hashes |= {SOURCES: manifest["sources"]["sha256"], **manifest.get("files", {})}
    problems = [f"{file} is missing" for file in hashes if not (folder / file).is_file()]
    there = {file: sha256 for file, sha256 in hashes.items() if (folder / file).is_file()}
    problems += [
        f"{file} is not the file that was written (another SHA-256)"
        for file in changed_files(folder, there, reads_all=True)
    ]
    unlisted = {path.name for path in folder.glob("*.npy")} - hashes.keys()
    problems += [f"{file} is not in the manifest" for file in sorted(unlisted)]
    if not problems:
        check_arrays(folder, manifest)
        names = tuple(manifest["modalities"]), tuple(manifest["splits"])
        problems += find_problems(folder, manifest["class_names"], *names, task_of(manifest))
    return problems


def _as_blocks(values: np.ndarray | RowBlocks) -> RowBlocks:
    if isinstance(values, RowBlocks):
        return values
    return RowBlocks(
        values.dtype,
        values.shape,
        lambda: (values[rows] for rows in row_ranges(values.shape, values.itemsize)),
    )


# ---------------------------------------------------------------------- entries of manifests


def _array_entry(path: Path) -> dict[str, Any]:
    values = open_array(path)
    return {"sha256": sha256_of(path), "dtype": str(values.dtype), "shape": list(values.shape)}


def _split_entry(split: NamedSplit, attributes: Mapping[str, np.ndarray]) -> dict[str, Any]:
    codes = np.asarray(split.codes)
    shared = {name: overlap(codes, values.tolist()) for name, values in attributes.items()}
    return {
        "description": split.description,
        "group": split.group,
        "sizes": [int((codes == code).sum()) for code in (TRAIN, VAL, TEST)],
        "overlap": {
            name: {"num": len(values), "values": values[:_MAX_LISTED]}
            for name, values in shared.items()
        },
    }
