"""Copies of a store's rows on a disk of this machine, which all jobs of the machine share.

A copy is a folder ``mla-store-NAME-FINGERPRINT-USER``: its name has the content of the store, so a
store that changed is copied anew. It holds the arrays of the modalities that were asked for, each
complete under its name or unfinished under ``FILE.partial``. One process at a time copies, under
the lock of the folder, which ends with the process; the next one continues where it was killed.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mla_lightning.data.contents import changed_files, record_file
from mla_lightning.data.manifest import changed_message
from mla_lightning.data.node_copies import (
    PARTIAL,
    PREFIX,
    hold,
    is_file,
    size_text,
    use_if_complete,
)
from mla_lightning.data.store import OpenStore
from mla_lightning.errors import ConfigError, DataError, RunError, reason_of
from mla_lightning.paths import command
from mla_lightning.run_folder.lock import RunLock, describe_holder

#: Seconds between two messages on the progress of a copy, and between two looks at its lock.
REPORT_S, POLL_S = 30.0, 0.2
#: Seconds after which a lock that no living process holds is an error.
PATIENCE_S = 10.0
_BLOCK = 1 << 22
_FULL = (errno.ENOSPC, errno.EDQUOT)


def check_scratch(scratch: str) -> None:
    """Check a value of ``data.scratch`` without a look at the disk, which another machine may have.

    Raises:
        ConfigError: If it is empty, relative or has control characters.

    Example:
        >>> check_scratch("$SLURM_TMPDIR/mla")
        >>> check_scratch("scratch")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: data.scratch=scratch must be an absolute path, ...
    """
    if not scratch.isprintable() or not scratch.startswith(("/", "~", "$")):
        raise ConfigError(
            f"data.scratch={scratch or repr(scratch)} must be an absolute path, of a folder on a "
            "disk of the machine that trains: /scratch/NAME, ~/DIR or '$SLURM_TMPDIR'"
        )


def scratch_folder(scratch: str) -> Path:
    """Return the folder that a value of ``data.scratch`` stands for on this machine.

    Args:
        scratch: The value, with ``~`` and variables of the environment.

    Raises:
        ConfigError: If a variable is not set on this machine, or the path is not absolute.

    Example:
        >>> os.environ["MY_DISK"] = "/scratch/me"
        >>> scratch_folder("$MY_DISK/mla").as_posix()
        '/scratch/me/mla'
    """
    text = os.path.expandvars(scratch)
    if "$" in text:
        raise ConfigError(
            f"data.scratch={scratch}: a variable in it is not set on {socket.gethostname()}. Name "
            "a folder on its disk, such as data.scratch=/tmp, or leave data.scratch out"
        )
    check_scratch(text)
    return Path(text).expanduser()


def copy_rows(store: OpenStore, modalities: Sequence[str], scratch: str) -> Path:
    """Return the folder of a copy of a store's rows on this machine; copy those that are not there.

    An array that was copied is compared with its hash while it is copied, and again only if its
    size, times or inode have changed since. If that finds damage, it is copied again. While another
    process copies, this one waits and says so.

    Args:
        store: The store.
        modalities: The modalities whose rows are needed.
        scratch: The value of ``data.scratch``.

    Returns:
        A folder with ``MODALITY.npy`` of each; this process is known to use it until it ends.

    Raises:
        ConfigError: If the folder cannot be used.
        DataError: If an array of the store is not the one that was written.
        RunError: If the disk has too little room, or an error of the system ends the copy.
    """
    base = scratch_folder(scratch)
    arrays = store.manifest["arrays"]
    hashes = {f"{name}.npy": str(arrays[f"{name}.npy"]["sha256"]) for name in modalities}
    stem = f"{PREFIX}{str(store.manifest['name'])[:80]}-{store.fingerprint[:16]}"
    own = base / f"{stem}-{os.getuid()}"
    for folder in (own, *sorted(base.glob(f"{glob.escape(stem)}-*"))):
        if use_if_complete(folder, hashes):
            return folder
    try:
        with ExitStack() as stack:
            _lock(stack, own, base, hashes, store)
            hold(own)
            _copy_missing(own, base, hashes, store)
    except OSError as error:
        if error.errno in _FULL:
            raise _no_room(base, store) from error
        raise RunError(
            f"{store.folder} cannot be copied to {own} on {socket.gethostname()}: "
            f"{reason_of(error)}. Run the same command again to continue, name another folder, or "
            "leave data.scratch out"
        ) from error
    return own


def check_rows(store: OpenStore, modality: str) -> None:
    """Compare a modality's rows in a store with their hash, unless that was done before.

    Raises:
        DataError: If they differ.
    """
    name = f"{modality}.npy"
    hashes = {name: str(store.manifest["arrays"][name]["sha256"])}
    if changed := changed_files(store.folder, hashes):
        raise DataError(changed_message(store.folder, store.manifest, changed))


# ---------------------------------------------------------------------- copying


def _lock(
    stack: ExitStack, own: Path, base: Path, hashes: Mapping[str, str], store: OpenStore
) -> None:
    """Lock the folder of a copy, after other processes that copy to it have ended."""
    reported = alone_since = None
    while True:
        _make_folder(own, base, is_public=_is_public(store.folder, hashes))
        lock = RunLock(own)
        try:
            stack.enter_context(lock)
        except FileNotFoundError:  # the folder was removed meanwhile
            continue
        except RunError:
            now, holder = time.monotonic(), lock.holder()
            alone_since = None if holder else alone_since or now
            if alone_since is not None and now - alone_since > PATIENCE_S:
                raise
            if holder and (reported is None or now - reported >= REPORT_S):
                reported = now
                _print(
                    f"waits for the copy of {store.folder} to {own} by {describe_holder(holder)}: "
                    f"{_progress_text(_num_copied(own, hashes), _num_bytes(store.folder, hashes))}"
                )
            time.sleep(POLL_S)
        else:
            return


def _make_folder(own: Path, base: Path, *, is_public: bool) -> None:
    """Make the folder of a copy; only users who can read the store can read the copy."""
    try:
        base.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            own.mkdir(mode=0o700)
        status = own.lstat()
    except OSError as error:
        raise ConfigError(
            f"data.scratch={base} cannot be used on {socket.gethostname()}: {reason_of(error)}. "
            "Name a folder on its own disk, or leave data.scratch out"
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise ConfigError(
            f"{own} is no folder of yours, and would be that of your copy. Name another folder: "
            "data.scratch=DIR"
        )
    own.chmod(0o755 if is_public else 0o700)


def _is_public(folder: Path, names: Mapping[str, str]) -> bool:
    """Return whether every user of the machine can read the rows of a store."""
    folder = folder.resolve()
    above = all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))
    return above and all((folder / name).stat().st_mode & stat.S_IROTH for name in names)


def _copy_missing(own: Path, base: Path, hashes: Mapping[str, str], store: OpenStore) -> None:
    """Copy the arrays that are absent or damaged; the lock of the folder is held."""
    existing = {}
    for name, sha256 in hashes.items():
        if is_file(own / name):
            existing[name] = sha256
        else:
            (own / name).unlink(missing_ok=True)  # such as a link
    for name in changed_files(own, existing):
        _print(f"{own / name} is damaged: it is copied from {store.folder} again")
        (own / name).unlink()
        del existing[name]
    missing = {name: sha256 for name, sha256 in hashes.items() if name not in existing}
    if not missing:
        return
    total = _num_bytes(store.folder, missing)
    if total - _num_copied(own, missing) > shutil.disk_usage(own).free:
        raise _no_room(base, store, total - _num_copied(own, missing))
    _print(f"copies {size_text(total)} of {store.folder} to {own} on {socket.gethostname()}")
    started = time.monotonic()
    progress = _Progress(total)
    try:
        for name, sha256 in missing.items():
            if not _copy_file(store.folder / name, own / name, sha256, progress):
                raise DataError(changed_message(store.folder, store.manifest, [name]))
    except OSError as error:
        if error.errno in _FULL:
            for path in own.glob(f"*{PARTIAL}"):  # of no use, and other jobs need the room
                path.unlink(missing_ok=True)
        raise
    _print(f"copied {size_text(total)} to {own} in {time.monotonic() - started:.0f} s")


def _copy_file(source: Path, target: Path, sha256: str, progress: _Progress) -> bool:
    """Copy a file, from where a killed process stopped; return whether it has the hash.

    If it has another one, the part that was there may be damaged: the file is copied as a whole.
    """
    partial = target.with_name(f"{target.name}{PARTIAL}")
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    before = progress.num_bytes
    while True:
        progress.num_bytes = before
        digest, num_before = hashlib.sha256(), 0
        handle = os.open(partial, flags, 0o600)
        with os.fdopen(handle, "r+b", buffering=0) as copy, source.open("rb", buffering=0) as file:
            for block in _blocks(copy.fileno(), 0):
                digest.update(block)
                num_before += len(block)
                progress.add(len(block))
            copy.seek(num_before)
            for block in _blocks(file.fileno(), num_before):
                digest.update(block)
                num_written = 0
                while num_written < len(block):
                    num_written += copy.write(block[num_written:])
                progress.add(num_written)
            is_public = target.parent.stat().st_mode & stat.S_IROTH
            os.fchmod(copy.fileno(), 0o444 if is_public else 0o400)
            os.fsync(copy.fileno())
        if digest.hexdigest() == sha256:
            partial.rename(target)
            record_file(target, sha256)
            return True
        partial.unlink()
        if not num_before:
            return False


def _blocks(handle: int, first: int) -> Iterator[memoryview]:
    """Read a file from a byte on; what was read does not stay in the memory of the system."""
    buffer = memoryview(bytearray(_BLOCK))
    while num_bytes := os.preadv(handle, [buffer], first):
        yield buffer[:num_bytes]
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, first, num_bytes, os.POSIX_FADV_DONTNEED)
        first += num_bytes


def _no_room(base: Path, store: OpenStore, needed: int | None = None) -> RunError:
    free = shutil.disk_usage(base).free
    needs = "does not fit" if needed is None else f"needs {size_text(needed)} more"
    return RunError(
        f"data.scratch={base}: the copy of {store.folder} {needs}, and {size_text(free)} are free "
        f"there on {socket.gethostname()}. Remove the copies that no process uses: "
        f"{command('mla', 'data', 'scratch', base, '--remove')}. Or name a larger disk, "
        "or leave data.scratch out"
    )


@dataclass
class _Progress:
    """The progress of a copy, which is printed now and then.

    Attributes:
        total: Number of bytes of all files.
        num_bytes: Number of bytes that are done.
    """

    total: int
    num_bytes: int = 0
    _reported: float = field(default_factory=time.monotonic)

    def add(self, num_bytes: int) -> None:
        self.num_bytes += num_bytes
        if time.monotonic() - self._reported >= REPORT_S:
            self._reported = time.monotonic()
            _print(f"  {_progress_text(self.num_bytes, self.total)}")


def _num_bytes(folder: Path, names: Iterable[str]) -> int:
    return sum((folder / name).stat().st_size for name in names)


def _num_copied(own: Path, names: Iterable[str]) -> int:
    """Return how many bytes of files a copy has so far."""
    num_bytes = 0
    for path in (own / f"{name}{ending}" for name in names for ending in ("", PARTIAL)):
        with suppress(FileNotFoundError):
            num_bytes += path.lstat().st_size
    return num_bytes


def _progress_text(num_bytes: int, total: int) -> str:
    return f"{size_text(num_bytes)} of {size_text(total)}"


def _print(text: str) -> None:
    print(f"data.scratch: {text}", file=sys.stderr, flush=True)
