"""Target folder of a preparation: whether it is free, and a lock against other processes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mla_lightning.errors import ConfigError, DataError, RunError
from mla_lightning.paths import command


def json_digest(values: Mapping[str, Any]) -> str:
    """Hash a JSON-able mapping.

    Args:
        values: The mapping.

    Returns:
        SHA-256 as hexadecimal text.
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def describe_partial(partial: Path) -> str:
    """Return a sentence about the folder that an unfinished preparation leaves, with its size.

    Args:
        partial: The folder.

    Returns:
        The sentence, with the command that removes the folder.
    """
    blocks = 0
    for path in partial.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            blocks += path.lstat().st_blocks
    size = blocks * 512 / 1e6
    text = f"{size / 1000:.1f} GB" if size >= 1000 else f"{size:.1f} MB"
    return f"What is done takes {text}; to remove it: {command('rm', '-r', partial)}"


def describe_difference(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> str:
    """Describe where two mappings differ.

    Args:
        before: The earlier mapping.
        now: The present mapping.
        prefix: Name of the mappings, put before the names of their keys.

    Returns:
        Text such as ``size was 224, now it is 256``; empty if they are equal.
    """
    differences = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            differences.append(describe_difference(old, new, name))
        elif old != new:
            is_long = max(len(str(old)), len(str(new))) > 60
            text = f"{name} differs" if is_long else f"{name} was {old}, now it is {new}"
            differences.append(text)
    return "; ".join(text for text in differences if text)


def is_prepared(target: Path, identity: Mapping[str, Any]) -> bool:
    """Return whether a folder already holds a store.

    Args:
        target: The folder.
        identity: Identity of the store.

    Returns:
        True if the folder holds this very store, False if it is free.

    Raises:
        DataError: If it holds anything else.
    """
    try:
        manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise DataError(
                f"{target} exists and is no prepared store. Choose another target=, or move it away"
            ) from None
        return False
    except ValueError as error:
        raise DataError(f"{target}/manifest.json is broken: {error}. Remove {target}") from error
    if manifest.get("options", {}).get("identity") == json_digest(identity):
        return True
    raise DataError(
        f"{target} is a store of {manifest.get('name', 'something')} that was made from other "
        f"files or with other options. Choose another target=, or remove it: "
        + command("rm", "-r", target)
    )


@contextlib.contextmanager
def locked_folder(partial: Path, target: Path) -> Iterator[None]:
    """Create the partial folder and lock it against other processes.

    Args:
        partial: The folder.
        target: Folder of the store, for messages.

    Raises:
        ConfigError: If the folder cannot be written.
        RunError: If another process has the lock.
    """
    try:
        partial.mkdir(parents=True, exist_ok=True)
        handle = os.open(partial / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(
            f"{partial} cannot be written: {error.strerror}. Choose another target=, or set "
            "paths.data_dir for training accordingly"
        ) from error
    try:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # workers do not inherit it
        except OSError as error:
            raise RunError(f"another process is preparing {target} right now") from error
        yield
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Force a folder's file names to the disk.

    Args:
        folder: The folder.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
