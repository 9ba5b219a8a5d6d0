"""New folders and files of data, which appear complete, without leftovers of killed writers.

A writer holds the kernel's lock on its temporary folder or file. The kernel releases it when the
process ends, however it ends, so the next writer removes exactly the leftovers of dead ones.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from mla_lightning.errors import ConfigError, DataError, RunError
from mla_lightning.paths import command


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Make a folder whose files are written by the block; it appears when the block ends.

    Args:
        target: The folder; it must not exist.

    Yields:
        A temporary folder beside it, which is removed if the block raises an error.

    Raises:
        DataError: If the target exists.
        ConfigError: If the folder above it cannot be written.
        RunError: If the disk is full.

    Example:
        >>> with new_folder(tmp / "new") as folder:
        ...     _ = (folder / "a.txt").write_text("complete")
        >>> [path.name for path in tmp.rglob("*")]
        ['new', 'a.txt']
    """
    check_free(target)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder(target))
        except OSError as error:
            raise ConfigError(
                f"{target} cannot be written: {error.strerror}. Choose another target="
            ) from error
        try:
            yield folder
            folder.rename(target)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT} or " requested and " in str(error):
                raise disk_full_error(target.parent) from error  # NumPy gives no number
            raise


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Make a folder beside a target, and remove it after the block unless the block renamed it.

    Args:
        target: The file or folder that is made with it.

    Yields:
        The folder.

    Raises:
        OSError: If the folder above it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target.parent, f".{glob.escape(target.name)}.*.tmp")
    folder, handle = _locked_entry(target, _make_folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """Replace a file by what the block writes, once the block has ended.

    Args:
        path: The file; its folder must exist.

    Yields:
        A temporary file beside it, which is removed if the block raises an error.

    Raises:
        OSError: If it cannot be written.

    Example:
        >>> with new_file(tmp / "a.bin") as file:
        ...     _ = file.write(b"complete")
        >>> [path.name for path in tmp.iterdir()]
        ['a.bin']
    """
    _remove_leftovers(path.parent, f".*{glob.escape(path.suffix)}.*.tmp")
    temporary, handle = _locked_entry(path, _make_file)
    with os.fdopen(handle, "wb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def check_free(target: Path) -> None:
    """Raise DataError if a folder that is to be made exists."""
    if target.exists() or target.is_symlink():
        raise DataError(
            f"{target} exists. Choose another target, or remove it: {command('rm', '-r', target)}"
        )


def disk_full_error(folder: Path, needed: int | None = None) -> RunError:
    """Return the error of a full disk.

    Args:
        folder: A folder on the disk.
        needed: Number of bytes that are needed in total; None if unknown.

    Returns:
        The error, to be raised.
    """
    free = shutil.disk_usage(folder).free
    size = f"{_size(needed)} are needed, " if needed else ""
    return RunError(
        f"the disk of {folder} is full: {size}{_size(free)} are free. Make room or choose "
        "target= on another disk, and start the same command again: it continues where it stopped"
    )


def _size(num_bytes: int) -> str:
    """Format a number of bytes with the unit that shows it."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.2f} {unit}"
    return f"{num_bytes} bytes"


def _make_folder(path: Path) -> int:
    path.mkdir()
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def _make_file(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)


def _locked_entry(target: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """Create and lock a temporary folder or file beside a target; return its path and handle."""
    while True:
        name = f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        path = target.with_name(name)
        handle = make(path)
        _lock(handle)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(handle)):
                return path, handle
        os.close(handle)  # another process took it for a leftover before it was locked


def _lock(handle: int) -> bool:
    """Lock an open file or folder.

    Returns:
        False if another process holds the lock, or if the file system has no locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_leftovers(folder: Path, pattern: str) -> None:
    """Remove temporary folders and files whose writer is dead: those that nobody has locked."""
    for path in folder.glob(pattern):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # gone, a link, or not ours to read
            continue
        try:
            if _lock(handle):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        finally:
            os.close(handle)
