"""Download of one large file: with progress, checked, and continued if it was cut off."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.request import Request, urlopen

from mla_lightning.errors import DataError, reason_of

#: End of the name of a file that has not come as a whole.
PART = ".part"
_CHUNK = 1 << 20
#: Seconds without a byte after which a download fails.
_PATIENCE_S = 60


def fetch(url: str, path: Path, *, size: int, sha256: str, name: str) -> Path:
    """Download a file, or the rest of it if a part has come before.

    Args:
        url: Address, http or https.
        path: Where the file is kept; a part of it is beside it, with :data:`PART` at the end.
        size: Number of bytes of the file.
        sha256: Its hash.
        name: What is shown beside the progress.

    Returns:
        The path.

    Raises:
        DataError: If it cannot be downloaded, which keeps the part; if another process downloads
            it; or if it has another hash, which removes the part.
    """
    if path.is_file():
        return path
    part = path.with_name(path.name + PART)
    try:
        with part.open("ab") as file:
            _lock(file.fileno(), part)
            if file.tell() > size:
                file.seek(file.truncate(0))
            if file.tell() < size:
                _append(url, file, size, name)
            file.flush()
            digest = _sha256_of(part)
            if digest != sha256:
                part.unlink()
                raise DataError(
                    f"{url} is another file than expected: SHA-256 {digest}, not {sha256}"
                )
            part.rename(path)
    except (OSError, HTTPException) as error:
        come = part.stat().st_size if part.is_file() else 0
        raise DataError(
            f"{url}: {reason_of(error)}, after {come / 1e6:.1f} of {size / 1e6:.1f} MB. The same "
            "command goes on from there"
        ) from error
    return path


def _append(url: str, file: BinaryIO, size: int, name: str) -> None:
    """Append the rest of a download to a file, or all of it if the server sends no parts."""
    begin = file.tell()
    request = Request(url, headers={"Range": f"bytes={begin}-"} if begin else {})
    with (
        urlopen(request, timeout=_PATIENCE_S) as response,
        download_progress(name, size) as update,
    ):
        if begin and response.status != HTTPStatus.PARTIAL_CONTENT:
            file.seek(file.truncate(0))
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            update(file.tell())
    if file.tell() < size:
        raise ConnectionError("the connection was closed")


@contextlib.contextmanager
def download_progress(name: str, size: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a growing number of bytes on a terminal; nothing elsewhere.

    Args:
        name: What is shown beside it; empty to show nothing.
        size: The number at the end, if it is known.

    Yields:
        A function of the number of bytes that have come.

    Example:
        >>> with download_progress("toy", 10) as update:
        ...     update(5)
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    is_shown = bool(name) and console.is_terminal
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not is_shown
    ) as progress:
        task = progress.add_task(f"downloading {name}", total=size)
        yield lambda num_bytes: progress.update(task, completed=num_bytes)


def _lock(handle: int, part: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(f"Another process is downloading {part}. Wait for it") from error


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
