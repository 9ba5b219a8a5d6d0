"""Writing of files: atomic, never through a symbolic link, and never writable by every user."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mla_lightning.run_folder.lock import lock_file

#: Permissions of new files before the umask: every user may read them, but not write.
MODE = 0o664


def open_file(path: Path, flags: int) -> int:
    """Open a file, but not what a symbolic link in its place points to.

    Args:
        path: The file.
        flags: Flags of ``os.open``. A file that is created is not world-writable, whatever the
            umask is.

    Returns:
        The descriptor, which the caller closes.

    Raises:
        OSError: As ``os.open``; if the file is a symbolic link, too.

    Example:
        >>> (tmp / "log.txt").symlink_to(tmp / "other.txt")
        >>> open_file(tmp / "log.txt", os.O_WRONLY | os.O_CREAT)
        Traceback (most recent call last):
        OSError: [Errno 40] Too many levels of symbolic links: ...
    """
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Replace a file by what is written meanwhile, once all of it is on the disk.

    The content goes to a temporary file ``.NAME.RANDOM.tmp`` in the same folder, which is renamed
    at the end, so that a kill leaves the old file or the new one. Until then this process holds the
    kernel's lock of it, by which :func:`~mla_lightning.run_folder.lock.remove_temporaries` knows
    that its writer lives.

    Args:
        path: The file; its folder must exist.

    Yields:
        The temporary file, opened for binary writing.

    Example:
        >>> with replacing(tmp / "a.bin") as file:
        ...     _ = file.write(b"complete")
        ...     (tmp / "a.bin").exists()
        False
        >>> (tmp / "a.bin").read_bytes()
        b'complete'
    """
    # Not the process's number, which two containers may share.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "x+b", opener=_opener) as file:
            lock_file(file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        if error.filename is None:  # such as that the disk is full: say where
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _opener(path: str, flags: int) -> int:
    return open_file(Path(path), flags)
