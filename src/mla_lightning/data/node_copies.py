"""Copies of stores on a disk of this machine: which are used, their list, and their removal.

Every process that reads a copy has a file in it locked for as long as it lives, so that a copy can
be removed exactly if no process needs it.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mla_lightning.data.contents import are_recorded, changed_files
from mla_lightning.errors import DataError, reason_of
from mla_lightning.run_folder.lock import LOCK, lock_file

#: Beginning of the name of a copy.
PREFIX = "mla-store-"
#: Ending of a file that is not complete.
PARTIAL = ".partial"
#: The file that every process which reads a copy has locked.
IN_USE = ".in-use"
#: Descriptors of these files, of the copies that this process reads.
_HELD: dict[Path, int] = {}


def size_text(num_bytes: int) -> str:
    """Return a size in the unit in which a copy's progress can be seen.

    Example:
        >>> size_text(41_000_000_000), size_text(1_500_000)
        ('41.0 GB', '1.5 MB')
    """
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 10**8 else f"{num_bytes / 1e6:.1f} MB"


def use_if_complete(folder: Path, hashes: Mapping[str, str]) -> bool:
    """Use a copy until the end of this process if it is complete; return whether it is.

    The record of a copy of another user is not believed: its files are compared by each user once.

    Args:
        folder: The copy, which need not exist.
        hashes: File that is needed -> SHA-256 as hexadecimal text.

    Example:
        >>> use_if_complete(tmp, {"audio.npy": "0" * 64})
        False
    """
    with suppress(OSError, DataError):
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            return False
        is_trusted = status.st_uid in (0, os.getuid())
        hold(folder)
        if all(is_file(folder / name) for name in hashes) and (
            are_recorded(folder, hashes)
            if is_trusted
            else not changed_files(folder, hashes, trusts_folder=False)
        ):
            return True
    _release(folder)
    return False


def is_file(path: Path) -> bool:
    """Return whether a path is a regular file, and no link to one.

    Example:
        >>> is_file(tmp)
        False
    """
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def hold(folder: Path) -> None:
    """Show until the end of this process that it reads a copy, and note the time."""
    if folder in _HELD:
        return
    path = folder / IN_USE
    is_own = folder.lstat().st_uid == os.getuid()
    flags = os.O_RDWR | os.O_CREAT if is_own else os.O_RDONLY
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    _HELD[folder] = handle
    lock_file(handle, shared=True, patience_s=1.0)
    if is_own:
        os.utime(handle)


def _release(folder: Path) -> None:
    if folder in _HELD:
        os.close(_HELD.pop(folder))


@dataclass(frozen=True)
class NodeCopy:
    """A copy of a store on a disk of this machine.

    Attributes:
        folder: Its folder.
        num_bytes: Size of its files.
        last_use: Time at which a process began to use it last, in seconds since 1970; 0 if unknown.
        is_unfinished: Whether an array is not complete.
        is_in_use: Whether a process reads it or copies to it.

    Example:
        >>> copies_in(tmp)
        []
    """

    folder: Path
    num_bytes: int
    last_use: float
    is_unfinished: bool
    is_in_use: bool


def copies_in(base: Path) -> list[NodeCopy]:
    """Return the copies of stores in a folder, the one that was used last first.

    Raises:
        DataError: If the folder cannot be read.

    Example:
        >>> (tmp / "mla-store-toy-0123456789abcdef-1000").mkdir()
        >>> [(copy.num_bytes, copy.is_in_use) for copy in copies_in(tmp)]
        [(0, False)]
    """
    copies = []
    try:
        folders = [path for path in base.iterdir() if path.name.startswith(PREFIX)]
    except OSError as error:
        raise DataError(f"{base} cannot be read: {reason_of(error, base)}") from error
    for folder in folders:
        with suppress(OSError):  # removed meanwhile, or of a user who does not let us read it
            sizes = {path.name: path.lstat().st_size for path in folder.iterdir()}
            last_use = (folder / IN_USE).stat().st_mtime if IN_USE in sizes else 0.0
            is_unfinished = any(name.endswith(PARTIAL) for name in sizes)
            with _unused(folder) as is_unused:
                is_in_use = not is_unused
            copies.append(NodeCopy(folder, sum(sizes.values()), last_use, is_unfinished, is_in_use))
    return sorted(copies, key=lambda copy: (-copy.last_use, copy.folder))


def remove_copy(folder: Path) -> bool:
    """Remove a copy, unless a process uses it.

    Returns:
        Whether it was removed.

    Raises:
        OSError: If it cannot be removed.

    Example:
        >>> (tmp / "mla-store-toy-0123456789abcdef-1000").mkdir()
        >>> remove_copy(tmp / "mla-store-toy-0123456789abcdef-1000"), copies_in(tmp)
        (True, [])
    """
    with _unused(folder) as is_unused:
        if is_unused:
            shutil.rmtree(folder)
        return is_unused


@contextmanager
def _unused(folder: Path) -> Iterator[bool]:
    """Keep other processes meanwhile from starting to use a copy; yield whether none uses it."""
    with ExitStack() as stack:
        is_unused = True
        for name in (IN_USE, LOCK):
            with suppress(FileNotFoundError):
                handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                stack.callback(os.close, handle)
                is_unused = is_unused and lock_file(handle) is not False
        yield is_unused
