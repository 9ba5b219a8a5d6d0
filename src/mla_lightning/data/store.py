"""The prepared store: a folder of arrays and a manifest that says what they are.

Format 1. Arrays are ``.npy`` files with one row per sample, in the order of ``id.npy``; the
manifest is written last, so its presence means that the store is complete. See ``docs/store.md``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.data.mapped import MappedArray, open_array
from mla_lightning.data.splits import TEST, TRAIN, UNUSED, VAL, NamedSplit, overlap
from mla_lightning.data.store_faults import faults_of
from mla_lightning.errors import DataError, near
from mla_lightning.run_folder import write_json

FORMAT, VERSION = "mla_lightning-store", 1
MANIFEST, SOURCES = "manifest.json", "sources.json"
#: Shared values that the manifest lists by name; the count is always whole.
_LISTED = 20


class OpenStore:
    """A store that can be read.

    Attributes:
        folder: Where it is.
        manifest: What it is; see ``docs/store.md``.
        label: (N,) int64, from 0 to the number of classes minus 1.
        ids: (N,) unique names.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        """Remember; :func:`open_store` checks."""
        self.folder, self.manifest = folder, manifest
        self.label: np.ndarray = np.load(folder / "label.npy")
        self.ids: list[str] = np.load(folder / "id.npy").tolist()

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.label)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, in order."""
        return tuple(self.manifest["modalities"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the hashes of all arrays, splits excluded; no array is read."""
        hashes = {
            file: about["sha256"]
            for file, about in self.manifest["arrays"].items()
            if not file.startswith("split.")
        }
        text = json.dumps([self.manifest["class_names"], hashes], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def array(self, modality: str) -> MappedArray:
        """Open a modality's rows."""
        return MappedArray(self.folder / f"{modality}.npy")

    def present(self, modality: str) -> np.ndarray | None:
        """Read which samples have a modality: (N,) bool, None if all have."""
        path = self.folder / f"{modality}.present.npy"
        return np.load(path) if path.is_file() else None

    def attribute(self, name: str) -> list[str]:
        """Read what is known of each sample under a name, such as speaker: (N,) texts."""
        return np.load(self.folder / f"attribute.{name}.npy").tolist()

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of what is known of the samples."""
        files = sorted(f for f in self.manifest["arrays"] if f.startswith("attribute."))
        return tuple(file.removeprefix("attribute.").removesuffix(".npy") for file in files)

    def split(self, name: str) -> np.ndarray:
        """Read a split: (N,) int8, 0 train, 1 validation, 2 test, -1 unused.

        Raises:
            DataError: If there is no such split.
        """
        known = self.manifest["splits"]
        if name not in known:
            raise DataError(
                f"{self.folder} has no split {name!r}.{near(name, known)} "
                f"Known: {', '.join(known)}."
            )
        return np.load(self.folder / f"split.{name}.npy")


def _how_to_make(name: str) -> str:
    """The command for a data set of the package, whose module has its name; else both ways."""
    module = Path(__file__).parent / "sources" / f"{name}.py"
    if module.is_file() and "how_to_get" in module.read_text(encoding="utf-8"):
        return f"mla data prepare {name}"
    return "mla data prepare NAME raw=DIR, or mla data import FILE"


def open_store(folder: Path) -> OpenStore:
    """Open a store.

    Args:
        folder: The folder.

    Returns:
        The store; of its arrays only labels and ids are read.

    Raises:
        DataError: If it is no store, not complete, damaged, of a later format, or an array is
            missing or of another type or shape.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if folder.with_name(f"{folder.name}.partial").is_dir():
            what = "is not finished; run the same `mla data prepare` again to go on"
        elif folder.is_dir():
            what = f"is no prepared store: it has no {MANIFEST}"
        else:
            what = f"does not exist. Make it: {_how_to_make(folder.name)}"
        raise DataError(f"{folder} {what}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if manifest.get("format") != FORMAT:
        raise DataError(f"{path} is not of a prepared store")
    if manifest.get("version") != VERSION:
        raise DataError(
            f"{folder} has format {manifest.get('version')}; this version of mla_lightning reads "
            f"format {VERSION}. Prepare it again, or use the version that made it."
        )
    try:
        _check_arrays(folder, manifest)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error!r}. Prepare the store again.") from error
    return OpenStore(folder, manifest)


def _check_arrays(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Compare names, types and shapes with the manifest; no value is read."""
    wanted = {"id.npy", "label.npy"}
    wanted |= {f"{name}.npy" for name in manifest["modalities"]}
    wanted |= {f"split.{name}.npy" for name in manifest["splits"]}
    if lacking := sorted(wanted - manifest["arrays"].keys()):
        raise ValueError(f"it does not list {', '.join(lacking)}")
    if manifest["default_split"] not in manifest["splits"]:
        raise ValueError(f"there is no split {manifest['default_split']!r}, its default one")
    for file, about in manifest["arrays"].items():
        if not (folder / file).is_file():
            raise DataError(f"{folder} lacks {file}. Check it: mla data check {folder}")
        values = open_array(folder / file)
        found, written = (str(values.dtype), list(values.shape)), (about["dtype"], about["shape"])
        if found != written:
            raise DataError(
                f"{folder / file} is {found[0]} of {tuple(found[1])}, the manifest says "
                f"{written[0]} of {tuple(written[1])}. Check it: mla data check {folder}"
            )


def write_store(
    folder: Path,
    *,
    name: str,
    class_names: Sequence[str],
    ids: Sequence[str],
    label: Sequence[int],
    arrays: Mapping[str, np.ndarray],
    kinds: Mapping[str, str],
    splits: Mapping[str, NamedSplit],
    default_split: str | None = None,
    present: Mapping[str, np.ndarray] | None = None,
    attributes: Mapping[str, Sequence[str]] | None = None,
    **about: Any,
) -> None:
    """Write a store of arrays that are in memory.

    Args:
        folder: Where to; must not exist.
        name: Name of the data set.
        class_names: The classes, in the order of the labels.
        ids: (N,) unique names; rows are sorted by them.
        label: (N,) class numbers.
        arrays: Modality -> (N, ...).
        kinds: Modality -> ``frames``, ``image``, ``spectrogram``, ``tokens`` or ``features``.
        splits: Name -> split.
        default_split: The one used unless another is chosen; the first by default.
        present: Modality -> (N,) bool, for modalities that some sample lacks.
        attributes: Name -> (N,) texts.
        **about: What :func:`finish_store` takes in addition.

    Raises:
        DataError: If lengths differ, or as :func:`finish_store` says; nothing is left then.
    """
    if folder.exists():
        raise DataError(f"{folder} exists. Choose another target, or remove it: rm -r {folder}")
    columns: dict[str, Any] = {"id": np.asarray(ids, dtype=str), "label": np.asarray(label)}
    columns |= {modality: np.asarray(values) for modality, values in arrays.items()}
    columns |= {f"{m}.present": np.asarray(v, dtype=bool) for m, v in (present or {}).items()}
    columns |= {f"attribute.{n}": np.asarray(v, dtype=str) for n, v in (attributes or {}).items()}
    codes = {key: replace(split, codes=np.asarray(split.codes)) for key, split in splits.items()}
    lengths = {key: len(values) for key, values in columns.items()}
    lengths |= {f"split {key}": len(split.codes) for key, split in codes.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise DataError(f"{name}: the lengths differ: {listed}")
    order = np.argsort(columns["id"], kind="stable")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    partial.mkdir(parents=True)
    try:
        for key, values in columns.items():
            values = values.astype(np.int64) if key == "label" else values
            np.save(partial / f"{key}.npy", values[order])
        finish_store(
            partial,
            name=name,
            class_names=class_names,
            modalities={modality: {"kind": kinds[modality], "options": {}} for modality in arrays},
            splits={key: replace(split, codes=split.codes[order]) for key, split in codes.items()},
            default_split=default_split or next(iter(splits)),
            **about,
        )
        partial.rename(folder)
    except BaseException:
        for path in partial.iterdir():
            path.unlink()
        partial.rmdir()
        raise


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
) -> None:
    """Complete a store whose arrays lie in its folder: check them, add splits and the manifest.

    Args:
        folder: The folder, with ``label.npy``, ``id.npy`` and an array per modality.
        name: Name of the data set.
        class_names: The classes, in the order of the labels.
        modalities: Modality -> ``kind`` and ``options`` of what made it.
        splits: Name -> split.
        default_split: The one used unless another is chosen.
        options: Options of the data set that changed its samples.
        sources: ``file``, ``bytes`` and ``sha256`` or ``failure`` of every source file.
        failures: ``id``, ``file`` and ``reason`` of the samples that are not in the store.
        versions: Versions of the libraries that made it.

    Raises:
        DataError: If ids are not unique and sorted, a label or split is out of range, a class or
            part of a split is empty, a type is not allowed, or a value is not finite.
    """
    for key, split in splits.items():
        if not np.isin(split.codes, (TRAIN, VAL, TEST, UNUSED)).all():
            raise DataError(
                f"{name}: the split {key!r} does not fit: it holds other codes than -1 to 2"
            )
        np.save(folder / f"split.{key}.npy", np.asarray(split.codes, dtype=np.int8))
    text = json.dumps(list(sources), indent=1, ensure_ascii=False)
    (folder / SOURCES).write_text(text + "\n", encoding="utf-8")
    if faults := [*faults_of(folder, class_names, tuple(modalities), tuple(splits))]:
        raise DataError(f"{name}: {'; '.join(faults)}")
    attributes = {
        path.name.removeprefix("attribute.").removesuffix(".npy"): np.load(path)
        for path in sorted(folder.glob("attribute.*.npy"))
    }
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "class_names": list(class_names),
        "modalities": {key: dict(about) for key, about in modalities.items()},
        "splits": {key: _about_split(split, attributes) for key, split in splits.items()},
        "default_split": default_split,
        "options": dict(options or {}),
        "versions": dict(versions or {}),
        "arrays": {path.name: _about_array(path) for path in sorted(folder.glob("*.npy"))},
        "sources": {
            "sha256": _sha256(folder / SOURCES),
            "num_files": len(sources),
            "failures": sum("failure" in entry for entry in sources),
        },
        "failures": [dict(entry) for entry in failures],
    }
    write_json(folder / MANIFEST, manifest)


def verify_store(folder: Path) -> list[str]:
    """Compare a store with its manifest, every byte of it.

    Args:
        folder: The store.

    Returns:
        What is wrong, a sentence each; empty if nothing is.

    Raises:
        DataError: If it is no store of this format, or its manifest is damaged.
    """
    try:
        manifest = open_store(folder).manifest
    except DataError:
        manifest = _readable(folder)
    faults = []
    for file, about in manifest["arrays"].items():
        if not (folder / file).is_file():
            faults.append(f"{file} is missing")
        elif _sha256(folder / file) != about["sha256"]:
            faults.append(f"{file} is not the file that was written (another SHA-256)")
    strays = {found.name for found in folder.glob("*.npy")} - manifest["arrays"].keys()
    faults += [f"{stray} is not in the manifest" for stray in sorted(strays)]
    if not (folder / SOURCES).is_file():
        faults.append(f"{SOURCES} is missing")
    elif _sha256(folder / SOURCES) != manifest["sources"]["sha256"]:
        faults.append(f"{SOURCES} is not the file that was written (another SHA-256)")
    if not faults:
        parts = tuple(manifest["modalities"]), tuple(manifest["splits"])
        faults += faults_of(folder, manifest["class_names"], *parts)
    return faults


def _readable(folder: Path) -> dict[str, Any]:
    """Read the manifest of a store with faulty arrays; other faults are raised once more."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if (manifest["format"], manifest["version"]) == (FORMAT, VERSION):
            _ = manifest["modalities"], manifest["splits"], manifest["class_names"]
            _ = manifest["sources"]["sha256"], [a["sha256"] for a in manifest["arrays"].values()]
            return manifest
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return open_store(folder).manifest


# ---------------------------------------------------------------------- pieces


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _about_array(path: Path) -> dict[str, Any]:
    values = open_array(path)
    return {"sha256": _sha256(path), "dtype": str(values.dtype), "shape": list(values.shape)}


def _about_split(split: NamedSplit, attributes: Mapping[str, np.ndarray]) -> dict[str, Any]:
    codes = np.asarray(split.codes)
    shared = {name: overlap(codes, values.tolist()) for name, values in attributes.items()}
    return {
        "description": split.description,
        "group": split.group,
        "sizes": [int((codes == code).sum()) for code in (TRAIN, VAL, TEST)],
        "overlap": {
            name: {"num": len(values), "values": values[:_LISTED]}
            for name, values in shared.items()
        },
    }
