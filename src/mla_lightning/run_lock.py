"""The lock of a run folder: one process at a time writes to a run."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from mla_lightning.errors import RunError

LOCK = "lock"


class RunLock:
    """Exclusive use of a run folder by one process.

    The lock is a JSON file with the host and the process of its holder. It is created complete, by
    an exclusive hard link, so that two processes cannot both hold it. The lock of a dead process
    of this machine is taken over.

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
        self._is_held = False

    def holder(self) -> dict[str, Any] | None:
        """Return who holds the lock.

        Returns:
            The holder's ``host``, ``pid``, ``born`` (start of the process) and ``since`` (time of
            locking), or None if the lock is free or its holder died. A process of another machine
            counts as alive, since this machine cannot check it.
        """
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            host, pid, born = content["host"], int(content["pid"]), content["born"]
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None
        if host == socket.gethostname() and not _is_alive(pid, born):
            return None
        return dict(content)

    def __enter__(self) -> RunLock:
        """Acquire the lock, and remove temporary files that a killed holder left.

        Raises:
            RunError: If a living process holds it.
        """
        if self._is_held:
            return self
        holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "born": _state_and_start(os.getpid())[1],
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        temporary = self.path.with_name(f".{LOCK}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(holder), encoding="utf-8")
            self._is_held = self._link(temporary)
        finally:
            temporary.unlink(missing_ok=True)
        for leftover in self.path.parent.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lock; a forked child does not release its parent's."""
        holder = self.holder()
        if self._is_held and holder is not None and holder["pid"] == os.getpid():
            self.path.unlink(missing_ok=True)
        self._is_held = False

    def remove_stale(self) -> bool:
        """Remove the lock if its holder is dead.

        Returns:
            Whether the folder is free afterwards.
        """
        return self.holder() is None and self._replace_stale(None)

    def _link(self, temporary: Path) -> bool:
        for _ in range(3):
            try:
                os.link(temporary, self.path)  # fails if it exists; complete when it appears
                return True
            except FileExistsError:
                self._raise_if_held()
                if self._replace_stale(temporary):
                    return True
        raise RunError(
            f"Another process locked {self.path.parent} at the same time. Run the command again."
        )

    def _raise_if_held(self) -> None:
        holder = self.holder()
        if holder is None:
            return
        advice = "Wait until it ends, or stop it, then run the command again."
        if holder["host"] != socket.gethostname():
            advice += f" If that process has died, remove {self.path}."
        raise RunError(
            f"{self.path.parent} is in use by process {holder['pid']} on {holder['host']} "
            f"since {holder.get('since', 'an unknown time')}. {advice}"
        )

    def _replace_stale(self, temporary: Path | None) -> bool:
        """Replace a dead holder's lock by another one, or by none.

        Two processes may see the same dead holder. Only the process that holds the kernel's lock
        on that very file, and still finds it in place, replaces it. So none removes the lock of a
        process that replaced it earlier.
        """
        try:
            file = self.path.open("r+b")
        except FileNotFoundError:
            return temporary is None
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                is_in_place = os.path.samestat(self.path.stat(), os.fstat(file.fileno()))
            except FileNotFoundError:
                is_in_place = False
            if not is_in_place or self.holder() is not None:
                return False
            if temporary is None:
                self.path.unlink()
            else:
                temporary.replace(self.path)
            return True


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
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    state, start = _state_and_start(pid)
    return state != "Z" and start == born  # a zombie has ended; its parent has not noticed yet
