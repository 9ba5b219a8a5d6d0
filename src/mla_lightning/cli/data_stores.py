"""Stores as the actions of ``mla data`` show them: manifest, splits, and the next command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mla_lightning.paths import command, path_override
from mla_lightning.run_folder.tasks import CLASSIFICATION

#: The folder of stores, relative to the current folder; the same as in conf/paths/default.yaml.
DATA_DIR = Path("data")


def manifest_of(folder: Path) -> dict[str, Any]:
    """Read the manifest of a store.

    Raises:
        DataError: If it is missing or damaged.

    Example:
        >>> manifest_of(Path("nowhere"))
        Traceback (most recent call last):
        mla_lightning.errors.DataError: ...
    """
    from mla_lightning.data.manifest import read_manifest

    return read_manifest(folder)


def task_named_in(folder: Path) -> str:
    """Return the task that a manifest names; empty for classification or an unreadable manifest.

    It imports nothing, so that a list of stores is quick.

    Example:
        >>> task_named_in(Path("nowhere"))
        ''
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    task = manifest.get("task", "") if isinstance(manifest, dict) else ""
    return str(task) if task != CLASSIFICATION else ""


def print_splits(folder: Path) -> None:
    """Print the sizes of the splits of a store, and what train and test share."""
    manifest = manifest_of(folder)
    for name, split in manifest["splits"].items():
        sizes = "/".join(str(size) for size in split["sizes"])
        default = " (default)" if name == manifest["default_split"] else ""
        print(f"split {name}{default}: {sizes} train/val/test. {split['description']}")
        for attribute, shared in split.get("overlap", {}).items():
            if shared["num"]:
                print(f"  train and test share {shared['num']} values of {attribute}")


def print_vocabulary(folder: Path) -> None:
    """Print what the vocabulary of a store's texts was learnt from, if it was learnt."""
    if vocabulary := manifest_of(folder)["options"].get("subwords"):
        from mla_lightning.prepare.table_vocabulary import vocabulary_sentence

        print(f"texts: {vocabulary_sentence(vocabulary)}")


def train_on(folder: Path) -> str:
    """Return the command that trains on a store.

    Example:
        >>> print(train_on(Path("data/my")))
        mla train data=store data.path=data/my
    """
    return command("mla", "train", "data=store", path_override("data.path", folder))


def train_on_splits(folder: Path) -> str:
    """Return the command of Table 1 over all named splits of a store; empty if it has one.

    Args:
        folder: The store.
    """
    splits = [*manifest_of(folder)["splits"]]
    if len(splits) < 2:
        return ""
    words = ("experiment=table1/store", path_override("data.path", folder))
    return command("mla", "train", "-m", *words, f"data.split={','.join(splits)}")
