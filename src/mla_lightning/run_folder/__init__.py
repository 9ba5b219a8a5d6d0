"""The run folder: what training writes and everything that shows evidence reads.

A run is done if, and only if, its ``result.json`` exists: it is written last and atomically. Files
are replaced by rename within their own folder, so a reader never meets half a JSON document, also
after a kill. This module needs the standard library alone; reports and listings stay quick.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from mla_lightning.errors import Interrupted, Preempted, RunError
from mla_lightning.run_lock import RunLock

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
CHECKPOINTS = "checkpoints"


class State(StrEnum):
    """What a run is in; files hold the value.

    Attributes:
        FINISHED: Its result is there.
        RUNNING: A living process holds its lock.
        FAILED: It ended with an error.
        PREEMPTED: The scheduler ended it (SIGTERM); a checkpoint was written.
        INTERRUPTED: The user ended it (Ctrl-C); a checkpoint was written.
        KILLED: It says that it runs, but nobody holds its lock.
        MISSING: It was never started.
        UNREADABLE: Its files are damaged.
        ELSEWHERE: Another process is running it; only a sweep says so.
        NOT_STARTED: A sweep ended before its turn; only a sweep says so.
    """

    FINISHED = "finished"
    RUNNING = "running"
    FAILED = "failed"
    PREEMPTED = "preempted"
    INTERRUPTED = "interrupted"
    KILLED = "killed"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    ELSEWHERE = "running elsewhere"
    NOT_STARTED = "not started"

    @classmethod
    def of_exit_code(cls, code: int) -> State:
        """Return the state of a job that ended with an exit code.

        Example:
            >>> State.of_exit_code(143)
            <State.PREEMPTED: 'preempted'>
        """
        if code == 0:
            return cls.FINISHED
        by_code = {Interrupted.exit_code: cls.INTERRUPTED, Preempted.exit_code: cls.PREEMPTED}
        return by_code.get(code, cls.FAILED)


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


def state_of(run_dir: Path) -> State:
    """Return a run's state.

    Args:
        run_dir: The run folder.
    """
    if is_finished(run_dir):
        return State.FINISHED
    status = read_json(run_dir / STATUS)
    if status is None:
        return State.MISSING
    state = State(status["state"])
    if state in (State.RUNNING, State.FINISHED) and RunLock(run_dir).holder() is None:
        return State.KILLED
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
