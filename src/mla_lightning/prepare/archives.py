"""Unpacking of official archives, without writing outside of the target folder."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from mla_lightning.data.temporary import disk_full_error
from mla_lightning.errors import DataError, reason_of
from mla_lightning.run_folder import write_json

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
#: File that is in a folder while archives are unpacked there.
UNFINISHED = ".mla-unpacking.json"
#: File with the archives that were unpacked in a folder, and their sizes and times of change.
FINISHED = ".mla-unpacked.json"
#: Number of bytes that are left free on the disk.
_RESERVE = 100_000_000
_BLOCK = 1 << 20
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,  # a compression that the library cannot read
    RuntimeError,  # an encrypted member
)


@dataclass(frozen=True)
class _Member:
    name: str
    num_bytes: int
    content: IO[bytes] | None  # None for a folder


def is_archive(path: Path) -> bool:
    """Return whether a file has the name of an archive that :func:`unpack` reads."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def find_archives(folder: Path) -> list[Path]:
    """List the archives in a folder and in the folders directly below it.

    Args:
        folder: The folder.

    Returns:
        Their paths, sorted.
    """
    paths = (path for pattern in ("*", "*/*") for path in folder.glob(pattern))
    return sorted(filter(is_archive, paths))


def is_unfinished(folder: Path) -> bool:
    """Return whether the unpacking of archives in a folder was interrupted."""
    return (folder / UNFINISHED).exists()


def unpack_archives(raw: Path) -> Path:
    """Unpack an archive, or all archives in a folder.

    Existing files are not written again, so a call that was killed continues.

    Args:
        raw: An archive, which is unpacked into a folder of its name beside it; or a folder with
            archives, each of which is unpacked into the folder that contains it.

    Returns:
        The folder with the files; the inner folder if an archive holds one folder and nothing else.

    Raises:
        DataError: If an archive is broken or encrypted, has paths or links to the outside of the
            folder, or has a file that already exists with another size.
        RunError: If the disk is full.
    """
    if is_archive(raw):
        target = raw.with_name(_stem(raw))
        if target.exists() and not target.is_dir():
            raise DataError(f"{raw} would be unpacked into {target}, which is a file")
        _make_folder(target)
        _unpack_all([raw], {raw: target}, target)
        return _only_folder(target)
    archives = find_archives(raw)
    _unpack_all(archives, {path: path.parent for path in archives}, raw)
    return raw


def _unpack_all(archives: list[Path], targets: dict[Path, Path], folder: Path) -> None:
    stamps = _read_json(folder / FINISHED)
    names = {
        path: path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
        for path in archives
    }
    packed = [path for path in archives if stamps.get(names[path]) != _stamp(path)]
    if packed:
        _write_json(folder / UNFINISHED, {names[path]: "" for path in packed})
    for path in packed:
        print(f"Unpacking {path} ({path.stat().st_size / 1e6:.1f} MB) into {targets[path]}")
        num_files, num_bytes = unpack(path, targets[path])
        print(f"  {num_files} files, {num_bytes / 1e6:.1f} MB")
        stamps[names[path]] = _stamp(path)
        _write_json(folder / FINISHED, stamps)
    (folder / UNFINISHED).unlink(missing_ok=True)


def unpack(archive: Path, target: Path) -> tuple[int, int]:
    """Unpack one archive.

    If the format has a table of contents (zip), all names are checked before a file is written;
    otherwise (tar) each name is checked before its file is written. Files are written under a
    temporary name and renamed, so that a file with its final name is complete.

    Args:
        archive: The archive.
        target: An existing folder.

    Returns:
        Number of files in the archive, and number of their bytes.

    Raises:
        DataError: See :func:`unpack_archives`.
        RunError: If the disk is full.
    """
    num_files = num_bytes = 0
    root = target.resolve()
    try:
        for member in _members(archive, root):
            path = _target_path(archive, root, member.name)
            if member.content is None:
                path.mkdir(parents=True, exist_ok=True)
                continue
            num_files, num_bytes = num_files + 1, num_bytes + member.num_bytes
            _write(archive, member, path)
    except _BROKEN as error:
        raise DataError(
            f"{archive} is broken, cut off or encrypted: {error or type(error).__name__}. Get it "
            "again; the files that are unpacked already are kept"
        ) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise disk_full_error(target) from error
        raise DataError(
            f"{archive} cannot be unpacked into {target}: {reason_of(error)}"
        ) from error
    return num_files, num_bytes


def _members(archive: Path, root: Path) -> Iterator[_Member]:
    if archive.name.lower().endswith(".zip"):
        yield from _zip_members(archive, root)
    else:
        yield from _tar_members(archive)


def _zip_members(archive: Path, root: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        entries = file.infolist()
        for entry in entries:
            _target_path(archive, root, entry.filename)
            mode = entry.external_attr >> 16
            if mode and stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise _unsafe(archive, entry.filename, "is a link or device")
        needed = sum(entry.file_size for entry in entries)
        if needed > shutil.disk_usage(root).free and not any(root.iterdir()):
            raise disk_full_error(root, needed)
        for entry in entries:
            if entry.is_dir():
                yield _Member(entry.filename, 0, None)
            else:
                with file.open(entry) as content:
                    yield _Member(entry.filename, entry.file_size, content)


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as file:
        for entry in file:
            if entry.isdir():
                yield _Member(entry.name, 0, None)
            elif entry.isreg():
                with _content(file, entry) as content:
                    yield _Member(entry.name, entry.size, content)
            elif entry.issym() or entry.islnk():
                # Written as a copy of the linked file: no link is created.
                linked = _link_target(archive, entry)
                try:
                    linked_entry = file.getmember(linked)
                except KeyError as error:
                    raise _unsafe(
                        archive, entry.name, f"links to {entry.linkname!r}, which is not in it"
                    ) from error
                if not linked_entry.isreg():
                    raise _unsafe(archive, entry.name, f"links to {linked!r}, which is no file")
                with _content(file, linked_entry) as content:
                    yield _Member(entry.name, linked_entry.size, content)
            else:
                raise _unsafe(archive, entry.name, "is a device or pipe")


def _content(file: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    content = file.extractfile(entry)
    assert content is not None  # None only for entries that are neither file nor link
    return content


def _link_target(archive: Path, entry: tarfile.TarInfo) -> str:
    names: list[str] = []
    start = PurePosixPath(entry.name).parent if entry.issym() else PurePosixPath()
    for name in (start / entry.linkname).parts:
        if name == "..":
            if not names:
                raise _unsafe(archive, entry.name, f"links out of it, to {entry.linkname!r}")
            names.pop()
        elif name == "/":
            raise _unsafe(archive, entry.name, f"links out of it, to {entry.linkname!r}")
        else:
            names.append(name)
    return "/".join(names)


def _target_path(archive: Path, root: Path, name: str) -> Path:
    """Return the path that a member is written to, after checking it and its folders."""
    inner = PurePosixPath(name.replace("\\", "/"))
    if inner.is_absolute() or ".." in inner.parts or (inner.parts and inner.parts[0].endswith(":")):
        raise _unsafe(archive, name, "leaves the folder")
    path = root.joinpath(*inner.parts)
    if not path.parent.resolve().is_relative_to(root) or path.is_symlink():
        raise _unsafe(archive, name, f"would be written through the link {path}")
    return path


def _unsafe(archive: Path, name: str, reason: str) -> DataError:
    return DataError(
        f"{archive} is not unpacked: its member {name!r} {reason}. No official archive has such "
        "members; download it again from its authors"
    )


def _write(archive: Path, member: _Member, path: Path) -> None:
    assert member.content is not None
    if path.exists():
        if path.is_file() and path.stat().st_size == member.num_bytes:
            return
        raise DataError(
            f"{path} already exists, with another size than in {archive}. Move it away, or "
            "unpack into an empty folder"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(path.parent).free < member.num_bytes + _RESERVE:
        raise disk_full_error(path.parent, member.num_bytes)
    temporary = path.with_name(f".{path.name[:200]}.unpacking")
    num_written = 0
    with temporary.open("wb") as file:
        while block := member.content.read(_BLOCK):
            num_written += len(block)
            if num_written > member.num_bytes:  # more bytes than the archive lists
                break
            file.write(block)
    if num_written != member.num_bytes:
        temporary.unlink()
        raise DataError(
            f"{archive} is broken: {member.name!r} does not have the {member.num_bytes} bytes "
            "that the archive lists"
        )
    temporary.replace(path)


def _stem(archive: Path) -> str:
    name = archive.name
    suffix = max((s for s in SUFFIXES if name.lower().endswith(s)), key=len)
    return name[: -len(suffix)] or "unpacked"


def _only_folder(folder: Path) -> Path:
    entries = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def _make_folder(target: Path) -> None:
    try:
        target.mkdir(exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{target} cannot be created: {error.strerror}. Unpack the archive yourself on a disk "
            "with space, and give that folder with raw=DIR"
        ) from error


def _stamp(path: Path) -> str:
    """Return size and time of change of a file."""
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _read_json(path: Path) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError):
        content: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return content
    return {}


def _write_json(path: Path, content: dict[str, str]) -> None:
    try:
        write_json(path, content)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise disk_full_error(path.parent) from error
        raise DataError(
            f"{path.parent} cannot be written: {error.strerror}. Unpack the archives yourself "
            "on a disk with space, and give that folder with raw=DIR"
        ) from error
