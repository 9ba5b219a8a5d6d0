"""The lock of a run folder: one process at a time writes to a run."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from mla_lightning.errors import RunError
from mla_lightning.run_folder.rank_variables import num_tasks
from mla_lightning.run_folder.scheduler import has_ended, this_job

LOCK = "lock"
#: Exists while a process acquires the lock on a file system without kernel locks.
GUARD = ".lock.guard"
#: Errors of ``flock`` on file systems that have no locks.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
#: Seconds to wait for readers, which hold the kernel's lock for an instant to look at it.
PATIENCE_S = 0.25
#: Beginnings of the types of file systems whose locks may not reach other machines.
LOCAL_TYPES = ("fuse", "9p", "virtiofs", "cifs", "smb", "beegfs", "afs", "vboxsf")
#: Mount options by which a network file system keeps locks on one machine.
LOCAL_OPTIONS = ("local_lock=flock", "local_lock=all", "localflock", "nolock", "nobrl")


class RunLock:
    """Exclusive use of a run folder by one process.

    The file ``lock`` is locked by the kernel (``flock``) for as long as the process lives, so the
    lock is seen by processes in other containers and, on a shared file system, on other machines,
    and ends with the process, however it ends. Forked children do not inherit it. The file also
    names its holder. It is emptied on release and never removed: a process that waits for it
    would then lock a file that no longer exists.

    A file system without kernel locks is used with more caution: the file alone is the lock, and
    unless its holder is a process of this machine that has died, or of a scheduler's job that has
    ended, a person must remove it.

    Example:
        >>> with RunLock(tmp) as lock:
        ...     lock.holder()["pid"] == os.getpid()
        True
        >>> lock.holder() is None
        True
    """

    def __init__(self, run_dir: Path) -> None:
        """Prepare the lock of a run folder, without acquiring it.

        Args:
            run_dir: The run folder.
        """
        self.path = run_dir / LOCK
        self._file: int | None = None

    def holder(self) -> dict[str, Any] | None:
        """Return who holds the lock.

        Returns:
            The holder's ``host``, ``pid``, ``born`` (start of the process), ``since`` (time of
            locking), ``boot`` (the start of the machine), ``pid_namespace`` (its container) and
            ``scheduler_job``, or None if the lock is free or its holder died. If neither the
            kernel, its process nor its scheduler proves that it died, it counts as alive.
        """
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            content = _content_of(file)
            if content is None:  # released: to lock the file would only disturb the next holder
                return None
            is_locked = lock_file(file, shared=True)
            if is_locked is False or _may_live(content, is_locked is True, self.path):
                return content
            return None
        finally:
            os.close(file)

    def __enter__(self) -> RunLock:
        """Acquire the lock, and remove temporary files that a killed holder left.

        Raises:
            RunError: If a process that may live holds it.
        """
        if self._file is not None:
            return self
        while self._file is None:
            file = self._open_in_place()
            try:
                has_lock = lock_file(file, patience_s=PATIENCE_S)
                if has_lock is False:
                    raise self._error(_content_of(file), is_certain=True)
                with nullcontext() if has_lock else self._guarded():
                    content = _content_of(file)
                    if _may_live(content, has_lock is True, self.path):
                        raise self._error(content, is_certain=False)
                    if not self._is_in_place(file):  # somebody removed it meanwhile
                        os.close(file)
                        continue
                    _write(file, _this_process() | {"kernel": has_lock is True})
            except BaseException:
                os.close(file)
                raise
            self._file = file
        _HELD.add(self)
        remove_temporaries(self.path.parent, is_owner=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lock; a forked child does not release its parent's."""
        if self._file is None:
            return
        with suppress(OSError):  # a full or vanished disk: the kernel's lock ends all the same
            os.ftruncate(self._file, 0)
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            _HELD.discard(self)
            os.close(self._file)
            self._file = None

    def _open_in_place(self) -> int:
        """Open the file; a symbolic link in its place is an error, not followed."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(self.path, flags, 0o664)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise RunError(f"{self.path} is a symbolic link. Remove it.") from error
            raise

    def _is_in_place(self, file: int) -> bool:
        try:
            return os.path.samestat(self.path.stat(follow_symlinks=False), os.fstat(file))
        except FileNotFoundError:
            return False

    def _error(self, content: dict[str, Any] | None, *, is_certain: bool) -> RunError:
        advice = "Wait until it ends, or stop it, then run the command again."
        if not is_certain:
            advice += f" If that process has died, remove {self.path}."
        same_job = content is not None and content.get("scheduler_job") == this_job()
        if (tasks := num_tasks()) > 1 and same_job:
            advice = (
                f"srun has started this command {tasks} times. Write `srun -n 1`, or "
                f"trainer.devices={tasks} to train one job on {tasks} devices."
            )
        since = (content or {}).get("since") or "an unknown time"
        return RunError(
            f"{self.path.parent} is in use by {describe_holder(content)} since {since}. {advice}"
        )

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Let one process at a time acquire a lock that the kernel does not hold."""
        guard = self.path.with_name(GUARD)
        try:
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o664))
        except FileExistsError:
            raise RunError(
                f"Another process is locking {self.path.parent}, whose file system has no locks. "
                f"Run the command again; if there is no such process, remove {guard}."
            ) from None
        try:
            yield
        finally:
            guard.unlink(missing_ok=True)


def lock_file(file: int, *, shared: bool = False, patience_s: float = 0.0) -> bool | None:
    """Lock an open file by the kernel, until it is closed.

    Args:
        file: The descriptor.
        shared: Whether others may hold the lock as well, if theirs is shared, too.
        patience_s: Seconds to wait for another holder.

    Returns:
        True if it is locked now, False if another process holds the lock, None if the file system
        has no locks.

    Example:
        >>> with (tmp / "a").open("w") as one, (tmp / "a").open("w") as other:
        ...     lock_file(one.fileno()), lock_file(other.fileno())
        (True, False)
    """
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.005)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return None
            raise
        else:
            return True


def describe_holder(holder: dict[str, Any] | None) -> str:
    """Return a text that names the holder of a lock.

    Args:
        holder: What :meth:`RunLock.holder` returned.

    Example:
        >>> describe_holder({"pid": 1234, "host": "node7"})
        'process 1234 on node7'
        >>> holder = {"pid": 7, "host": socket.gethostname(), "pid_namespace": "pid:[1]"}
        >>> describe_holder(holder)
        'process 7 of another container on ...'
    """
    if not holder or not holder.get("pid"):
        return "another process"
    place = " of another container" if _is_here(holder) and not _shares_pids(holder) else ""
    job = holder.get("scheduler_job") or {}
    kind = {"slurm": "SLURM job", "ray": "Ray task"}.get(job.get("scheduler", "slurm"), "job")
    place += f" ({kind} {job['job']})" if job.get("job") else ""
    return f"process {holder['pid']}{place} on {holder['host']}"


def remove_temporaries(folder: Path, *, is_owner: bool = False) -> None:
    """Remove the temporary files in a folder whose writers have died.

    A writer holds the kernel's lock of its file ``.NAME.RANDOM.tmp`` until it is complete; see
    :func:`~mla_lightning.run_folder.replacing`.

    Args:
        folder: The folder, which need not exist.
        is_owner: Whether no other process may write to it, so that a file system without locks
            does not protect a file.

    Example:
        >>> (tmp / ".a.json.1.tmp").touch()
        >>> remove_temporaries(tmp)
        >>> list(tmp.iterdir())
        []
    """
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if path.is_symlink():
                path.unlink()
                continue
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                is_locked = lock_file(file)
                if is_locked or (is_locked is None and is_owner):
                    path.unlink(missing_ok=True)
            finally:
                os.close(file)


#: The locks that this process holds.
_HELD: set[RunLock] = set()


def _forget_inherited() -> None:
    """Close the files of locks that a forked child inherited: a worker must not keep them."""
    for lock in tuple(_HELD):
        lock._close()


os.register_at_fork(after_in_child=_forget_inherited)


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "boot": _boot(),
        "pid_namespace": _pid_namespace(),
        "pid": os.getpid(),
        "born": _state_and_start(os.getpid())[1],
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "scheduler_job": this_job(),
    }


def _boot() -> str:
    """Return the identity of the running kernel, which containers share; empty if unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _content_of(file: int) -> dict[str, Any] | None:
    """Return the holder that a lock file names; None if it names none."""
    try:
        content = json.loads(os.pread(file, 65_536, 0))
        return content | {"host": str(content["host"]), "pid": int(content["pid"])}
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _write(file: int, content: dict[str, Any]) -> None:
    data = json.dumps(content).encode()
    os.ftruncate(file, 0)
    os.pwrite(file, data, 0)


def _may_live(content: dict[str, Any] | None, has_lock: bool, path: Path) -> bool:
    """Return whether the holder that a lock file names may be alive.

    Args:
        content: The content of the file.
        has_lock: Whether the caller has the kernel's lock of the file, which proves that a holder
            died who had it before, unless locks do not reach that holder's machine.
        path: The file.
    """
    if content is None:
        return False
    is_here = _is_here(content)
    if has_lock and content.get("kernel") and (is_here or _locks_reach_other_machines(path)):
        return False
    if not is_here or not _shares_pids(content):
        return not has_ended(content.get("scheduler_job"))
    return _is_alive(content["pid"], str(content.get("born", "")))


def _is_here(holder: dict[str, Any]) -> bool:
    """Return whether a holder runs, or ran, on this machine since its last start."""
    if boot := holder.get("boot"):  # the names of containers on one machine differ
        return bool(boot == _boot())
    return bool(holder["host"] == socket.gethostname())


def _shares_pids(holder: dict[str, Any]) -> bool:
    """Return whether a holder's number of the process means the same process here."""
    return bool(holder.get("pid_namespace", _pid_namespace()) == _pid_namespace())


def _locks_reach_other_machines(path: Path) -> bool:
    """Return whether a file system is local, or shares its locks with all machines that use it."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    place = path.parent.resolve()
    best: tuple[int, str] = (-1, "")
    for line in mounts:
        point, _, rest = line.split(" ", 4)[4].partition(" ")
        point = point.replace("\\040", " ")
        if place.is_relative_to(point) and len(point) >= best[0]:
            best = (len(point), rest)
    kind, _, options = best[1].partition(" - ")[2].partition(" ")
    is_local_only = any(option in options.split(" ")[-1].split(",") for option in LOCAL_OPTIONS)
    return bool(kind) and not kind.startswith(LOCAL_TYPES) and not is_local_only


def _state_and_start(pid: int) -> tuple[str, str]:
    """Return a process's state and start time; the latter tells processes with one pid apart."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]


def _is_alive(pid: int, born: str) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    state, start = _state_and_start(pid)
    return state != "Z" and start == born  # a zombie has ended; its parent has not noticed yet
