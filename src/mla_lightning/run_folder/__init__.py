"""The files of a run folder, which training writes and reports read.

A run is finished if, and only if, its ``result.json`` exists: that file is written last. Files are
replaced atomically, by a rename within their folder, so that a reader never finds half a JSON
document, not even after a kill. This module imports the standard library alone, which keeps
reports and listings quick.
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

from mla_lightning.errors import Interrupted, Preempted, Pruned, RunError
from mla_lightning.run_folder.lock import RunLock
from mla_lightning.run_folder.parsing import parse_json, read_limited
from mla_lightning.run_folder.writing import replacing

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
    """The state of a run; files hold the value.

    Attributes:
        FINISHED: Its result exists.
        QUEUED: A scheduler has it and has not started it yet.
        RUNNING: A living process holds its lock.
        FAILED: It ended with an error.
        PREEMPTED: The scheduler ended it (SIGTERM); a checkpoint was written.
        INTERRUPTED: The user ended it (Ctrl-C); a checkpoint was written.
        KILLED: Its status is running, but no living process holds its lock.
        PRUNED: A search ended it before its last epoch; a checkpoint was written.
        MISSING: It was never started.
        UNREADABLE: Its files are damaged.
        ELSEWHERE: Another process is running it; only sweeps use this state.
        NOT_STARTED: A sweep ended before its turn; only sweeps use this state.

    Example:
        >>> State("finished")
        <State.FINISHED: 'finished'>
        >>> print(State.ELSEWHERE)
        running elsewhere
    """

    FINISHED = "finished"
    QUEUED = "queued"
    RUNNING = "running"
    FAILED = "failed"
    PREEMPTED = "preempted"
    INTERRUPTED = "interrupted"
    KILLED = "killed"
    PRUNED = "pruned"
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
        by_code = {
            Interrupted.exit_code: cls.INTERRUPTED,
            Preempted.exit_code: cls.PREEMPTED,
            Pruned.exit_code: cls.PRUNED,
        }
        return by_code.get(code, cls.FAILED)


def write_text(path: Path, text: str) -> None:
    """Replace a file's text atomically: a kill leaves the old text or the new one.

    Args:
        path: The file; its folder must exist.
        text: The new content, written as UTF-8.

    Example:
        >>> write_text(tmp / "log.txt", "epoch 1")
        >>> (tmp / "log.txt").read_text()
        'epoch 1'
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file's content atomically; not every user can write it, whatever the umask is.

    Example:
        >>> write_bytes(tmp / "figure.png", b"PNG")
        >>> (tmp / "figure.png").read_bytes()
        b'PNG'
    """
    with replacing(path) as file:
        file.write(content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file atomically.

    Args:
        path: The file.
        content: A mapping that JSON can hold.

    Raises:
        ValueError: If a number is not finite.

    Example:
        >>> write_json(tmp / "status.json", {"state": "running"})
        >>> read_json(tmp / "status.json")
        {'state': 'running'}
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object.

    Args:
        path: The file.

    Returns:
        Its content, or None if the file does not exist.

    Raises:
        RunError: If the file exists but holds no JSON object, or one that no run writes; see
            :mod:`mla_lightning.run_folder.parsing`.

    Example:
        >>> read_json(tmp / "result.json") is None
        True
        >>> write_text(tmp / "result.json", "[1, 2]")
        >>> read_json(tmp / "result.json")
        Traceback (most recent call last):
        mla_lightning.errors.RunError: ...result.json holds no JSON object
    """
    try:
        content = parse_json(read_limited(path), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not isinstance(content, dict):
        raise RunError(f"{path} holds no JSON object")
    return content


def read_metrics(run_dir: Path) -> list[dict[str, float]]:
    r"""Read a run's metrics of each epoch.

    Args:
        run_dir: The run folder.

    Returns:
        One mapping per epoch, without empty cells. A last line that a kill cut off is ignored.

    Example:
        >>> write_text(tmp / "metrics.csv", "epoch,val/acc,lr\n1,0.5,\n2,0.7")
        >>> read_metrics(tmp)
        [{'epoch': 1.0, 'val/acc': 0.5}]
    """
    try:
        text = read_limited(run_dir / METRICS)
    except FileNotFoundError:
        return []
    lines = text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]
    return [
        {key: float(value) for key, value in row.items() if value not in ("", None)}
        for row in csv.DictReader(lines)
    ]


def is_finished(run_dir: Path) -> bool:
    """Return whether a run is finished, that is, whether its result exists.

    Example:
        >>> is_finished(tmp)
        False
        >>> write_json(tmp / "result.json", {})
        >>> is_finished(tmp)
        True
    """
    return (run_dir / RESULT).is_file()


def retry_command(overrides: Iterable[str]) -> str:
    """Return the shell command that runs one job.

    Args:
        overrides: The job's overrides, as ``mla train`` takes them.

    Example:
        >>> print(retry_command(["method=mla", "modalities=[audio, text]"]))
        mla train method=mla 'modalities=[audio, text]'
    """
    return shlex.join(["mla", "train", *overrides])


@contextmanager
def not_world_writable() -> Iterator[None]:
    """Create files and folders meanwhile that not every user can write, whatever the umask is.

    Example:
        >>> with not_world_writable():
        ...     (tmp / "runs").mkdir(mode=0o777)
        >>> (tmp / "runs").stat().st_mode & 0o002
        0
    """
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

    Example:
        >>> write_json(tmp / "status.json", {"state": "running"})
        >>> state_of(tmp)  # no process holds the lock
        <State.KILLED: 'killed'>
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
        root: A run folder, or any folder above run folders.

    Yields:
        Every folder that holds a run's config, or a finished run whose config was removed.

    Example:
        >>> for name in ("b", "a"):
        ...     (tmp / name).mkdir()
        ...     write_text(tmp / name / "config.yaml", "seed: 0")
        >>> [folder.name for folder in find_runs(tmp)]
        ['a', 'b']
    """
    for folder, subfolders, names in os.walk(root):
        if CONFIG in names or (RESULT in names and PROVENANCE in names):
            yield Path(folder)
            subfolders.clear()  # loggers write config.yaml files below a run folder, too
        subfolders.sort()
