"""Comparison of a store's arrays with their hashes, once for each content.

The files that agreed are recorded with their size, times, inode and device, so that an unchanged
file is read only once. The record is no part of the store: it is in no hash, and without it all
files are read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mla_lightning.data.sources.downloads import default_cache
from mla_lightning.data.temporary import new_file
from mla_lightning.errors import DataError
from mla_lightning.run_folder import not_world_writable

#: The record, in the store's folder or, where that is read-only, in a folder of the user.
RECORD = ".verified.json"
#: A file that changed so short a time before it was read may change again without a change of its
#: times, which file systems count in steps of up to two seconds; it is not recorded.
RECENT_S = 2.0
#: From this size on, progress is printed.
LARGE_BYTES = 1_000_000_000
_PROGRESS_S = 5.0
_BLOCK = 1 << 20
_MAX_DEVICES = 64


def changed_files(
    folder: Path,
    hashes: Mapping[str, str],
    *,
    reads_all: bool = False,
    trusts_folder: bool = True,
) -> list[str]:
    """Return the files of a store whose content has another hash than the manifest says.

    A file that agreed before, and whose size, times of change, inode and device are the same, is
    not read again. Damage of the disk itself changes none of these; ``reads_all`` finds it.

    Args:
        folder: The store.
        hashes: File -> SHA-256 as hexadecimal text; the files exist.
        reads_all: Whether to read all files, whatever is recorded.
        trusts_folder: Whether to believe the record in the folder; False for a folder of another
            user, whose files are then read once by each user of them on each machine.

    Returns:
        Names of the files, in the order of ``hashes``.

    Raises:
        DataError: If a file cannot be read.

    Example:
        >>> _ = (tmp / "label.npy").write_bytes(b"0101")
        >>> hashes = {"label.npy": hashlib.sha256(b"0101").hexdigest()}
        >>> changed_files(tmp, hashes)
        []
        >>> _ = (tmp / "label.npy").write_bytes(b"0111")
        >>> changed_files(tmp, hashes)
        ['label.npy']
    """
    places = _places(folder) if trusts_folder else _own_places(folder)
    records = [_read_record(path) for path in places]
    agreed = {} if reads_all else _recorded(folder, hashes, records)
    to_read = [file for file in hashes if file not in agreed]
    if not to_read:
        return []
    changed = []
    with _progress(folder, to_read) as count:
        for file in to_read:
            started = time.time()
            sha256, status = _read(folder / file, count)
            if sha256 != hashes[file]:
                changed.append(file)
            elif started - max(status.st_mtime, status.st_ctime) > RECENT_S:
                agreed[file] = _entry(sha256, status, [record.get(file) for record in records])
    _write_record(places, records, agreed, hashes)
    return changed


def are_recorded(folder: Path, hashes: Mapping[str, str]) -> bool:
    """Return whether all files agreed with their hashes before and are unchanged; none is read.

    Args:
        folder: The folder.
        hashes: File -> SHA-256 as hexadecimal text; the files exist.

    Example:
        >>> _ = (tmp / "label.npy").write_bytes(b"0101")
        >>> are_recorded(tmp, {"label.npy": sha256_of(tmp / "label.npy")})
        False
    """
    records = [_read_record(path) for path in _places(folder)]
    return len(_recorded(folder, hashes, records)) == len(hashes)


def record_file(path: Path, sha256: str) -> None:
    """Record that a file agrees with its hash, which its writer computed as it wrote it.

    Args:
        path: The file, which no process writes to any more.
        sha256: Its SHA-256 as hexadecimal text.

    Example:
        >>> _ = (tmp / "label.npy").write_bytes(b"0101")
        >>> record_file(tmp / "label.npy", sha256_of(tmp / "label.npy"))
        >>> are_recorded(tmp, {"label.npy": sha256_of(tmp / "label.npy")})
        True
    """
    places = _places(path.parent)
    records = [_read_record(place) for place in places]
    entry = _entry(sha256, _status(path), [])
    _write_record(places, records, {path.name: entry}, {path.name: sha256})


def sha256_of(path: Path) -> str:
    """Hash a file: SHA-256 as hexadecimal text.

    Raises:
        DataError: If it cannot be read.
    """
    return _read(path, lambda _: None)[0]


# ---------------------------------------------------------------------- reading


def _read(path: Path, count: Any) -> tuple[str, os.stat_result]:
    """Return hash and status of a file, both of the same open file."""
    digest, buffer = hashlib.sha256(), bytearray(_BLOCK)
    try:
        with path.open("rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            while num_bytes := file.readinto(buffer):
                digest.update(memoryview(buffer)[:num_bytes])
                count(num_bytes)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if _stamp(before) != _stamp(after):
        raise DataError(f"{path} was written while it was read. Run the same command again.")
    return digest.hexdigest(), after


@contextlib.contextmanager
def _progress(folder: Path, files: list[str]) -> Iterator[Any]:
    """Print the progress of reading if there is much to read; yield a function of bytes read."""
    total = sum(_status(folder / file).st_size for file in files)
    done, last = 0, time.monotonic()

    def count(num_bytes: int) -> None:
        nonlocal done, last
        done += num_bytes
        if total >= LARGE_BYTES and time.monotonic() - last > _PROGRESS_S:
            last = time.monotonic()
            print(f"  {done / 1e9:.1f} of {total / 1e9:.1f} GB", file=sys.stderr, flush=True)

    if total >= LARGE_BYTES:
        print(
            f"Comparing {folder} with its hashes: {total / 1e9:.1f} GB, once while its files do "
            "not change",
            file=sys.stderr,
            flush=True,
        )
    yield count


# ---------------------------------------------------------------------- the record


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _recorded(
    folder: Path, hashes: Mapping[str, str], records: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the entries of the files that agreed with their hashes and are unchanged."""
    agreed = {}
    for file, sha256 in hashes.items():
        status = _status(folder / file)
        entries = (record.get(file) for record in records)
        entry = next((e for e in entries if _is_recorded(e, sha256, status)), None)
        if entry is not None:
            agreed[file] = entry
    return agreed


def _is_recorded(entry: Any, sha256: str, status: os.stat_result) -> bool:
    return (
        isinstance(entry, dict)
        and entry.get("sha256") == sha256
        and entry.get("stamp") == _stamp(status)
        and status.st_dev in entry.get("devices", ())
    )


def _entry(sha256: str, status: os.stat_result, earlier: list[Any]) -> dict[str, Any]:
    """Return the entry of a file; machines that share a disk give it different device numbers."""
    entry: dict[str, Any] = {"sha256": sha256, "stamp": _stamp(status)}
    same = [e for e in earlier if isinstance(e, dict) and entry.items() <= e.items()]
    devices = dict.fromkeys([*(d for e in same for d in e.get("devices", ())), status.st_dev])
    return {**entry, "devices": [*devices][-_MAX_DEVICES:]}


def _places(folder: Path) -> list[Path]:
    """Return the places of the record: in the store, and in the user's cache."""
    return [folder / RECORD, *_user_places(os.fsencode(folder.resolve()))]


def _own_places(folder: Path) -> list[Path]:
    """Return the place of the record of a folder on this machine, in the user's cache."""
    return _user_places(os.fsencode(f"{socket.gethostname()}:{folder.resolve()}"))


def _user_places(key: bytes) -> list[Path]:
    name = hashlib.sha256(key).hexdigest()[:32]
    with contextlib.suppress(RuntimeError):  # the user has no home folder
        return [default_cache() / "verified" / f"{name}.json"]
    return []


def _read_record(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


def _write_record(
    places: list[Path],
    records: list[dict[str, Any]],
    agreed: Mapping[str, Any],
    hashes: Mapping[str, str],
) -> None:
    """Write the record to the first place that can be written; without one it is not kept.

    Entries of other files than those that were compared stay.
    """
    others = {f: e for record in reversed(records) for f, e in record.items() if f not in hashes}
    content = {**others, **agreed}
    if content in records:
        return
    text = json.dumps(content, indent=1) + "\n"
    for path in places:
        with contextlib.suppress(OSError), not_world_writable():
            if path.name != RECORD:
                path.parent.mkdir(parents=True, exist_ok=True)
            with new_file(path) as file:
                file.write(text.encode())
            return
