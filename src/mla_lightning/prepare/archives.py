"""Archives as they are handed out, unpacked so that nothing leaves the folder."""

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

from mla_lightning.errors import DataError
from mla_lightning.prepare.rows import full_disk
from mla_lightning.run_folder import write_json

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
#: Written into a folder while archives are unpacked there: archive -> whether it is done.
NOTE = ".mla-unpacking.json"
#: Bytes that stay free on the disk.
_RESERVE = 100_000_000
_BLOCK = 1 << 20
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,  # a compression that the library does not know
    RuntimeError,  # an encrypted member
)


@dataclass(frozen=True)
class _Member:
    name: str
    num_bytes: int
    open: IO[bytes] | None  # None for a folder


def is_archive(path: Path) -> bool:
    """Tell by its name whether a file is an archive that :func:`unpack` takes."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def archives_in(folder: Path) -> list[Path]:
    """List the archives in a folder and the folders right below it, in order of their names.

    Args:
        folder: The folder.

    Returns:
        Their paths.
    """
    return sorted(path for found in ("*", "*/*") for path in folder.glob(found) if is_archive(path))


def is_unfinished(folder: Path) -> bool:
    """Tell whether archives were being unpacked in a folder when it was interrupted."""
    return (folder / NOTE).exists()


def unpacked(raw: Path) -> Path:
    """Unpack an archive, or the archives that a folder holds, each where it lies.

    What was unpacked before is not written again, so a call that was killed goes on.

    Args:
        raw: An archive, which goes into a folder of its name beside it; or a folder that holds
            archives, each of which is unpacked into the folder it lies in.

    Returns:
        The folder with the files. Where an archive holds nothing but one folder, that folder.

    Raises:
        DataError: If an archive is broken or encrypted, or holds paths or links that leave the
            folder, or files that are there already with another size.
        RunError: If the disk is full.
    """
    if is_archive(raw):
        target = raw.with_name(_stem(raw))
        if target.exists() and not target.is_dir():
            raise DataError(f"{raw} would be unpacked into {target}, which is a file")
        _make_folder(target)
        _unpack_all([raw], {raw: target}, target)
        return _only_folder(target)
    archives = archives_in(raw)
    _unpack_all(archives, {path: path.parent for path in archives}, raw)
    return raw


def _unpack_all(archives: list[Path], places: dict[Path, Path], folder: Path) -> None:
    note = folder / NOTE
    done = folder / ".mla-unpacked.json"
    known = _read_note(done)
    names = {
        path: path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
        for path in archives
    }
    left = [path for path in archives if known.get(names[path]) != _stamp(path)]
    if not left:
        note.unlink(missing_ok=True)
        return
    _write_note(note, {names[path]: "" for path in left})
    for path in left:
        print(f"Unpacking {path} ({path.stat().st_size / 1e6:.1f} MB) into {places[path]}")
        num_files, num_bytes = unpack(path, places[path])
        print(f"  {num_files} files, {num_bytes / 1e6:.1f} MB")
        known[names[path]] = _stamp(path)
        _write_note(done, known)
    note.unlink(missing_ok=True)


def unpack(archive: Path, target: Path) -> tuple[int, int]:
    """Unpack one archive.

    All names are looked at before a file is written where the format has a table of contents
    (zip), and each before its own is written otherwise (tar). Files are written under another name
    and renamed, so that what has its name is whole.

    Args:
        archive: The archive.
        target: An existing folder.

    Returns:
        Number of files in the archive, and of their bytes.

    Raises:
        DataError: See :func:`unpacked`.
        RunError: If the disk is full.
    """
    num_files = num_bytes = 0
    root = target.resolve()
    try:
        for member in _members(archive, root):
            place = _place(archive, root, member.name)
            if member.open is None:
                place.mkdir(parents=True, exist_ok=True)
                continue
            num_files, num_bytes = num_files + 1, num_bytes + member.num_bytes
            _write(archive, member, place)
    except _BROKEN as error:
        raise DataError(
            f"{archive} is broken, cut off or encrypted: {error or type(error).__name__}. Get it "
            "again; what was unpacked so far stays"
        ) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise full_disk(target) from error
        raise DataError(f"{archive} cannot be unpacked into {target}: {error}") from error
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
            _place(archive, root, entry.filename)
            mode = entry.external_attr >> 16
            if mode and stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise _unsafe(archive, entry.filename, "is a link or device")
        needed = sum(entry.file_size for entry in entries)
        if needed > shutil.disk_usage(root).free and not any(root.iterdir()):
            raise full_disk(root, needed)
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
                # Written as the file that it stands for: no link is ever made.
                linked = _link_target(archive, entry)
                try:
                    meant = file.getmember(linked)
                except KeyError as error:
                    raise _unsafe(
                        archive, entry.name, f"links to {entry.linkname!r}, which is not in it"
                    ) from error
                if not meant.isreg():
                    raise _unsafe(archive, entry.name, f"links to {linked!r}, which is no file")
                with _content(file, meant) as content:
                    yield _Member(entry.name, meant.size, content)
            else:
                raise _unsafe(archive, entry.name, "is a device or pipe")


def _content(file: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    content = file.extractfile(entry)
    assert content is not None  # only for what is neither file nor link
    return content


def _link_target(archive: Path, entry: tarfile.TarInfo) -> str:
    parts: list[str] = []
    start = PurePosixPath(entry.name).parent if entry.issym() else PurePosixPath()
    for part in (start / entry.linkname).parts:
        if part == "..":
            if not parts:
                raise _unsafe(archive, entry.name, f"links out of it, to {entry.linkname!r}")
            parts.pop()
        elif part == "/":
            raise _unsafe(archive, entry.name, f"links out of it, to {entry.linkname!r}")
        else:
            parts.append(part)
    return "/".join(parts)


def _place(archive: Path, root: Path, name: str) -> Path:
    """Tell where a member goes; the folders on the way are looked at, too."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise _unsafe(archive, name, "leaves the folder")
    place = root.joinpath(*path.parts)
    if not place.parent.resolve().is_relative_to(root) or place.is_symlink():
        raise _unsafe(archive, name, f"would be written through the link {place}")
    return place


def _unsafe(archive: Path, name: str, why: str) -> DataError:
    return DataError(
        f"{archive} is not unpacked: its member {name!r} {why}. No official archive has such "
        "members; get it again from its makers"
    )


def _write(archive: Path, member: _Member, place: Path) -> None:
    assert member.open is not None
    if place.exists():
        if place.is_file() and place.stat().st_size == member.num_bytes:
            return
        raise DataError(
            f"{place} is there already, with another size than in {archive}. Move it away, or "
            "unpack into an empty folder"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(place.parent).free < member.num_bytes + _RESERVE:
        raise full_disk(place.parent, member.num_bytes)
    temporary = place.with_name(f".{place.name[:200]}.unpacking")
    written = 0
    with temporary.open("wb") as file:
        while block := member.open.read(_BLOCK):
            written += len(block)
            if written > member.num_bytes:  # says less than it holds
                break
            file.write(block)
    if written != member.num_bytes:
        temporary.unlink()
        raise DataError(
            f"{archive} is broken: {member.name!r} holds other than its {member.num_bytes} bytes"
        )
    temporary.replace(place)


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
            f"{target} cannot be made: {error.strerror}. Unpack the archive yourself where there "
            "is room, and give that folder with raw=DIR"
        ) from error


def _stamp(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def _read_note(path: Path) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError):
        notes: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return notes
    return {}


def _write_note(path: Path, content: dict[str, str]) -> None:
    try:
        write_json(path, content)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise full_disk(path.parent) from error
        raise DataError(
            f"{path.parent} cannot be written: {error.strerror}. Unpack the archives yourself "
            "where there is room, and give that folder with raw=DIR"
        ) from error
