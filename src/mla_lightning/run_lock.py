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

    The lock is a file that names its holder. It appears complete and by an exclusive link, so two
    processes cannot both have it; the lock of a dead process of this machine is taken over.
    """

    def __init__(self, run_dir: Path) -> None:
        """Name the lock of a run folder; nothing is taken yet.

        Args:
            run_dir: The run folder.
        """
        self.path = run_dir / LOCK
        self._is_held = False

    def holder(self) -> dict[str, Any] | None:
        """Tell who holds the lock.

        Returns:
            The holder's ``host``, ``pid``, ``born`` and ``since``, or None if it is free or its
            holder died. A process of another machine counts as alive: nobody here can tell.
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
        """Take the lock, and remove what a killed holder left half written.

        Raises:
            RunError: If a living process holds it.
        """
        if self._is_held:
            return self
        mine = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "born": _process(os.getpid())[1],
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        temporary = self.path.with_name(f".{LOCK}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(mine), encoding="utf-8")
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
        """Give the lock back; a forked child cannot give back its parent's."""
        holder = self.holder()
        if self._is_held and holder is not None and holder["pid"] == os.getpid():
            self.path.unlink(missing_ok=True)
        self._is_held = False

    def remove_stale(self) -> bool:
        """Remove the lock if its holder is dead.

        Returns:
            Whether the folder is free now.
        """
        return self.holder() is None and self._replace_stale(None)

    def _link(self, temporary: Path) -> bool:
        for _ in range(3):
            try:
                os.link(temporary, self.path)  # fails if it exists; complete when it appears
                return True
            except FileExistsError:
                self._refuse_living_holder()
                if self._replace_stale(temporary):
                    return True
        raise RunError(f"{self.path.parent} was taken by another process just now")

    def _refuse_living_holder(self) -> None:
        holder = self.holder()
        if holder is None:
            return
        advice = "Wait for it, or stop it and run the command again."
        if holder["host"] != socket.gethostname():
            advice += f" If that process has died, remove {self.path}."
        raise RunError(
            f"{self.path.parent} is in use by process {holder['pid']} on {holder['host']} "
            f"since {holder.get('since', 'an unknown time')}. {advice}"
        )

    def _replace_stale(self, temporary: Path | None) -> bool:
        """Put another lock, or none, in the place of a dead holder's.

        Two processes may see the same dead holder. Only who has the kernel's lock on that very
        file, and still finds it in place, replaces it; so nobody removes a successor's lock.
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


def _process(pid: int) -> tuple[str, str]:
    """Tell a process's state and when it started: a reused pid is not its predecessor."""
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
    state, since = _process(pid)
    return state != "Z" and since == born  # a zombie only waits for its parent to take notice
