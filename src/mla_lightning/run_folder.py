"""The run folder: what training writes and everything that shows evidence reads.

A run is done if, and only if, its ``result.json`` exists: it is written last and atomically. Files
are replaced by rename within their own folder, so a reader never meets half a JSON document, also
after a kill. This module needs the standard library alone; reports and listings stay quick.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import shlex
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from mla_lightning.errors import RunError

CONFIG = "config.yaml"
METRICS = "metrics.csv"
RESULT = "result.json"
PROVENANCE = "provenance.json"
PREDICTIONS = "predictions.npz"
DIAGNOSTICS = "diagnostics.json"
PLANES = "planes.npz"
STATUS = "status.json"
ERROR = "error.txt"
LOG = "log.txt"
LOCK = "lock"
CHECKPOINTS = "checkpoints"

#: Keys that say where and how comfortably a job runs, not what it computes.
NOT_IDENTITY = (
    "logger",
    "launcher",
    "paths",
    "grid",
    "name",
    "overwrite",
    "run_dir",
    "force_resume",
)
#: Settings of the data that change no number.
ELSEWHERE = ("path", "num_workers")
#: Parts of the package that cannot change a number that training writes.
NOT_TRAINING = (
    *("report", "config", "launchers", "cli.py", "cli_data.py", "cli_report.py", "sweep.py"),
    *("loggers.py", "wandb_evidence.py", "wandb_send.py"),
    *("prepare", "media"),  # what they make is in the data's fingerprint
)


def write_text(path: Path, text: str) -> None:
    """Replace a file's text atomically: a kill leaves the old text or the new one.

    Args:
        path: The file; its folder must exist.
        text: The new content, written as UTF-8.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file atomically.

    Args:
        path: The file.
        content: A JSON-able mapping; non-finite numbers are refused.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object.

    Args:
        path: The file.

    Returns:
        Its content, or None where there is no such file.

    Raises:
        RunError: If the file is there but holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise RunError(
            f"{path} is not valid JSON ({error}); remove the run folder's file"
        ) from error
    if not isinstance(content, dict):
        raise RunError(f"{path} holds no JSON object")
    return content


def read_metrics(run_dir: Path) -> list[dict[str, float]]:
    """Read a run's epoch metrics.

    Args:
        run_dir: The run folder.

    Returns:
        One mapping per epoch, empty cells left out. A last line that a kill cut off is ignored.
    """
    try:
        text = (run_dir / METRICS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    lines = text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]
    rows = []
    for row in csv.DictReader(lines):
        values = {key: value for key, value in row.items() if value not in ("", None)}
        rows.append({key: float(value) for key, value in values.items() if value != ""})
    return rows


def is_finished(run_dir: Path) -> bool:
    """Whether the run is done: its result is there."""
    return (run_dir / RESULT).is_file()


def is_finished_as(run_dir: Path, identity: str) -> bool:
    """Whether the run is done and was this very job.

    Args:
        run_dir: The run folder.
        identity: The job's identity.
    """
    result = read_json(run_dir / RESULT)
    return result is not None and result.get("identity") == identity


def retry_command(overrides: Iterable[str]) -> str:
    """Name the command that runs a job alone.

    Args:
        overrides: The job's overrides, as they were given to ``mla train``.

    Returns:
        A line to paste into a shell.
    """
    return shlex.join(["mla", "train", *overrides])


@contextmanager
def not_world_writable() -> Iterator[None]:
    """Let no file or folder made meanwhile be writable by every user, whatever the umask says."""
    before = os.umask(0o077)
    os.umask(before | 0o002)
    try:
        yield
    finally:
        os.umask(before)


def state_of(run_dir: Path) -> str:
    """Tell a run's state.

    Args:
        run_dir: The run folder.

    Returns:
        ``finished``, ``failed``, ``preempted``, ``interrupted``, ``running``, ``killed`` (it says
        that it runs, but nobody holds its lock) or ``missing``.
    """
    if is_finished(run_dir):
        return "finished"
    status = read_json(run_dir / STATUS)
    if status is None:
        return "missing"
    state = str(status["state"])
    if state in ("running", "finished") and RunLock(run_dir).holder() is None:
        return "killed"
    return state


def find_runs(root: Path) -> Iterator[Path]:
    """Find run folders below a folder, in the order of their names.

    Args:
        root: A run folder itself or any folder above some.

    Yields:
        Every folder that holds a run's config.
    """
    for folder, subfolders, names in os.walk(root):
        if CONFIG in names:
            yield Path(folder)
            subfolders.clear()  # what loggers put below a run folder has config.yaml files too
        subfolders.sort()


@cache
def code_fingerprint() -> str:
    """Hash the package's sources that can change a number.

    Returns:
        SHA-256 over every Python file of the package outside ``NOT_TRAINING``, as hex.
    """
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        if relative.parts[0] not in NOT_TRAINING:
            digest.update(relative.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def identity_of(config: Mapping[str, Any], data_fingerprint: str) -> str:
    """Hash what determines a run's numbers: config, data and code.

    Args:
        config: The resolved config as plain containers.
        data_fingerprint: The data module's fingerprint.

    Returns:
        SHA-256 as hex. Two jobs with one identity are one job.
    """
    kept = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    kept["trainer"] = {k: v for k, v in config.get("trainer", {}).items() if k != "progress_bar"}
    # Where a store lies is not what it holds, which the fingerprint tells.
    kept["data"] = {k: v for k, v in config.get("data", {}).items() if k not in ELSEWHERE}
    text = json.dumps([kept, data_fingerprint, code_fingerprint()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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
