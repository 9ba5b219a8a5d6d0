"""The manifest of a prepared store: its reading, and what can be checked without the arrays."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mla_lightning.data.mapped import open_array
from mla_lightning.data.targets import has_labels, targets_of
from mla_lightning.errors import DataError, reason_of
from mla_lightning.inputs.names import modality_name_problem
from mla_lightning.paths import command, name_problem
from mla_lightning.run_folder.tasks import CLASSIFICATION

FORMAT, VERSION = "mla_lightning-store", 1
MANIFEST, SOURCES = "manifest.json", "sources.json"
#: Attributes with the text that a row of tokens stands for.
TEXTS = ("text", "title", "transcript", "name")


def how_to_make(name: str) -> str:
    """Return the command that makes a store; both commands if the package has no such data set."""
    module = Path(__file__).parent / "sources" / f"{name}.py"
    if name.isidentifier() and module.is_file() and "how_to_get" in module.read_text("utf-8"):
        return f"mla data prepare {name}"
    return "mla data prepare NAME raw=DIR, or mla data import FILE"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a store of this format."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        place = folder.absolute()
        if place.name and place.with_name(f"{place.name}.partial").is_dir():
            problem = "is not finished; run the same `mla data prepare` again to continue"
        elif folder.is_dir():
            problem = f"is no prepared store: it has no {MANIFEST}"
        elif folder.exists():
            problem = "is not a folder; a prepared store is one, made by " + how_to_make("")
        else:
            problem = f"does not exist. Make it: {how_to_make(folder.name)}"
        raise DataError(f"{folder} {problem}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {reason_of(error, path)}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path} is not the manifest of a prepared store")
    if manifest.get("version") != VERSION:
        raise DataError(
            f"{folder} has format {manifest.get('version')}; this version of mla_lightning reads "
            f"format {VERSION}. Prepare it again, or use the version that made it."
        )
    task_of(manifest, str(path))
    return manifest


def task_of(manifest: Mapping[str, Any], where: str = "the store") -> str:
    """Return the task of a store: classification unless its manifest names another.

    Raises:
        DataError: If this version does not know it.

    Example:
        >>> task_of({"name": "my"}), task_of({"name": "my", "task": "regression"})
        ('classification', 'regression')
    """
    return targets_of(str(manifest.get("task", CLASSIFICATION)), where).task


def is_labelled(manifest: Mapping[str, Any]) -> bool:
    """Return whether a store has labels; one without is for predictions alone.

    Example:
        >>> is_labelled({"class_names": []})
        False
        >>> is_labelled({"class_names": [], "task": "regression"})
        True
    """
    return has_labels(task_of(manifest), manifest["class_names"])


def changed_message(folder: Path, manifest: Mapping[str, Any], changed: Sequence[str]) -> str:
    """Return the message on arrays with another hash, with the commands that help."""
    which = f"{changed[0]} and {len(changed) - 1} more" if len(changed) > 1 else changed[0]
    return (
        f"{folder / which} is not the array that was written: its SHA-256 is not the one in the "
        f"manifest, so a bit flipped, or the file was replaced. All problems: "
        f"{command('mla', 'data', 'check', folder)}. Remove the store and make it again: "
        f"{command('rm', '-r', folder)}, then {how_to_make(str(manifest['name']))}"
    )


def check_file_names(names: Mapping[str, Iterable[Any]], where: str) -> None:
    """Check names of which a store's files are named.

    Args:
        names: Kind (``data set``, ``modality``, ``split``, ``attribute``, ``array``) -> names.
        where: The file or data set that has them, for the message.

    Raises:
        DataError: If a name would leave the store's folder, or cannot be one of its kind.
    """
    for kind, values in names.items():
        for name in values:
            problem = name_problem(name)
            if not problem and kind == "modality":
                problem = modality_name_problem(name)
            if problem:
                raise DataError(f"{where}: the {kind} {name!r} {problem}")


def array_hashes(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the hashes of a store's arrays, after checks of the names in its manifest.

    Args:
        folder: The store.
        manifest: Its manifest.

    Returns:
        File -> SHA-256 as hexadecimal text.

    Raises:
        DataError: If an entry is missing or of another type, or a name cannot be that of a file.
    """
    try:
        _check_names(folder, manifest)
        return {file: str(entry["sha256"]) for file, entry in manifest["arrays"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(folder, error) from error


def check_arrays(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Compare types and shapes of the arrays with the manifest; no value is read.

    Args:
        folder: The store.
        manifest: Its manifest, whose names were checked.

    Raises:
        DataError: If an array is missing, damaged, or of another type or shape.
    """
    check = f"Check it: {command('mla', 'data', 'check', folder)}"
    for file, entry in manifest["arrays"].items():
        if not (folder / file).is_file():
            raise DataError(f"{folder} has no file {file}. {check}")
        try:
            values = open_array(folder / file)
        except DataError as error:
            raise DataError(f"{error}. {check}") from error
        dtype, shape = str(values.dtype), list(values.shape)
        try:
            expected = str(entry["dtype"]), list(entry["shape"])
        except (KeyError, TypeError) as error:
            raise _damaged(folder, error) from error
        if (dtype, shape) != expected:
            raise DataError(
                f"{folder / file} is {dtype} of {tuple(shape)}, the manifest says {expected[0]} "
                f"of {tuple(expected[1])}. {check}"
            )


def _check_names(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Check that all arrays are listed, and the names that become names of files."""
    names = {"data set": [manifest["name"]], "modality": manifest["modalities"]}
    names |= {"split": manifest["splits"], "array": manifest["arrays"]}
    check_file_names(names, str(folder / MANIFEST))
    required = {"id.npy", "label.npy"}
    required |= {f"{name}.npy" for name in manifest["modalities"]}
    required |= {f"split.{name}.npy" for name in manifest["splits"]}
    if missing := sorted(required - manifest["arrays"].keys()):
        raise ValueError(f"it does not list {', '.join(missing)}")
    if manifest["default_split"] not in manifest["splits"]:
        raise ValueError(f"there is no split {manifest['default_split']!r}, its default one")
    _ = manifest["class_names"], manifest["sources"]["sha256"]


def _damaged(folder: Path, error: Exception) -> DataError:
    return DataError(f"{folder / MANIFEST} is damaged: {error!r}. Prepare the store again.")
