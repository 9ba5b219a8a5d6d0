"""The place of a store: whether it is taken, by what, and who works there."""

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


def digest_of(identity: Mapping[str, Any]) -> str:
    """Hash a JSON-able mapping.

    Args:
        identity: The mapping.

    Returns:
        SHA-256 as hexadecimal text.
    """
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def difference(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> str:
    """Tell in words where two mappings differ.

    Args:
        before: One.
        now: The other.
        where: Name of what they are, for the words.

    Returns:
        Such as ``size was 224, now it is 256``; empty if they are equal.
    """
    words = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        name = f"{where}.{key}" if where else key
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            words.append(difference(old, new, name))
        elif old != new:
            is_long = max(len(str(old)), len(str(new))) > 60
            words.append(f"other {name}" if is_long else f"{name} was {old}, now it is {new}")
    return "; ".join(word for word in words if word)


def is_finished(target: Path, identity: Mapping[str, Any]) -> bool:
    """Tell whether a store is there already.

    Args:
        target: Where it would be.
        identity: What it would be.

    Returns:
        True if the very same store is there, False if the place is free.

    Raises:
        DataError: If something else is there.
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
    if manifest.get("options", {}).get("identity") == digest_of(identity):
        return True
    raise DataError(
        f"{target} is a store of {manifest.get('name', 'something')} that was made from other "
        f"files or with other options. Choose another target=, or remove it: rm -r {target}"
    )


@contextlib.contextmanager
def workplace(partial: Path, target: Path) -> Iterator[None]:
    """Make the partial folder and keep other processes out of it.

    Args:
        partial: The folder.
        target: The store, for messages.

    Raises:
        ConfigError: If it cannot be written.
        RunError: If another process works there.
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
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by workers
        except OSError as error:
            raise RunError(f"another process is preparing {target} right now") from error
        yield
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk.

    Args:
        folder: The folder.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
