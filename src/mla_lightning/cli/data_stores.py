"""Stores as the actions of ``mla data`` show them: manifest, splits, and the next command."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mla_lightning.cli.words import check_no_options, split_words
from mla_lightning.errors import RunError, reason_of
from mla_lightning.paths import command, path_override
from mla_lightning.run_folder.tasks import CLASSIFICATION

#: The folder of stores, relative to the current folder; the same as in conf/paths/default.yaml.
DATA_DIR = Path("data")
#: Option of `mla data scratch`.
REMOVE = "--remove"


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


def list_copies(words: Sequence[str]) -> int:
    """List the copies of stores in a folder of ``data.scratch``, and remove them on demand.

    Args:
        words: The folder, and ``--remove`` to remove the copies that no process uses.

    Returns:
        The exit code.

    Raises:
        ConfigError: If the words are wrong, or a variable in the folder's name is not set.
        DataError: If the folder cannot be read.
        RunError: If a copy cannot be removed.
    """
    from mla_lightning.data.node_copies import copies_in, remove_copy, size_text
    from mla_lightning.data.scratch import scratch_folder

    name, options = split_words([w for w in words if w != REMOVE], "scratch", "DIR")
    check_no_options(options, "scratch")
    base = scratch_folder(name if name.startswith(("/", "~", "$")) else str(Path(name).absolute()))
    copies = copies_in(base)
    if not copies:
        print(f"{base} has no copies of stores")
    for copy in copies:
        size, used = size_text(copy.num_bytes), time.localtime(copy.last_use)
        state = "in use" if copy.is_in_use else "unfinished" if copy.is_unfinished else "not in use"
        if REMOVE in words and not copy.is_in_use:
            try:
                state = "removed" if remove_copy(copy.folder) else "in use"
            except OSError as error:
                raise RunError(f"{copy.folder} cannot be removed: {reason_of(error)}") from error
        last = f"last used {time.strftime('%Y-%m-%d %H:%M', used)}" if copy.last_use else "not used"
        print(f"{copy.folder}: {size}, {last}, {state}")
    return 0
