"""Jobs in the queue of SLURM, read by one call of ``squeue`` for all of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mla_lightning.run_folder.scheduler import RUNNING, ask_slurm

#: States of jobs that wait for their start, or for their next one.
WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
#: Columns that are asked for; a suffix separates them.
COLUMNS = "JobArrayID:|,State:|,exit_code:|,RestartCnt:|,Reason:|,NodeList:|"
#: Reason of a job that its submitter has not released yet.
HELD = "JobHeldUser"
#: Largest number of arrays in one call, whose command line is limited.
_MAX_ARRAYS = 1000


@dataclass(frozen=True)
class QueuedTask:
    """A job, or a task of an array, as SLURM's queue shows it.

    Attributes:
        task: Its name, such as ``17_3``.
        state: SLURM's word, such as ``PENDING``.
        exit_code: Exit code of its last start; -n if signal n killed it.
        restart: Number of times that it was requeued.
        reason: Why it waits or failed, in SLURM's words; may be empty.
        nodes: Where it runs or ran; may be empty.

    Example:
        >>> task = QueuedTask("17_3", "PENDING", restart=1, reason="BeginTime")
        >>> task.is_waiting, task.is_active
        (True, True)
    """

    task: str
    state: str
    exit_code: int = 0
    restart: int = 0
    reason: str = ""
    nodes: str = ""

    @property
    def is_waiting(self) -> bool:
        """Whether it has no processes now, and will be started."""
        return self.state in WAITING

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.is_waiting or self.state in RUNNING


def parse_queue(text: str) -> dict[str, QueuedTask]:
    r"""Parse the output of ``squeue``.

    Args:
        text: One line per job, with :data:`COLUMNS`. A line may stand for several tasks of an array
            that wait, such as ``17_[2-4,7%6]``. Exit codes are raw, as ``wait`` returns them.

    Returns:
        Name of a task -> the task. Lines that have another form are left out.

    Example:
        >>> lines = "17_0|FAILED|256|0|NonZeroExitCode|n1|\n17_[2-3%4]|PENDING|0|0|None||"
        >>> tasks = parse_queue(lines)
        >>> [(task.task, task.state, task.exit_code) for task in tasks.values()]
        [('17_0', 'FAILED', 1), ('17_2', 'PENDING', 0), ('17_3', 'PENDING', 0)]
    """
    tasks = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 6 or not (cells[2].isdecimal() and cells[3].isdecimal()):
            continue
        name, state, code, restart, reason, nodes = cells[:6]
        reason = "" if reason in ("None", "(null)", "N/A") else reason
        exit_code = os.waitstatus_to_exitcode(int(code) & 0xFFFF) if int(code) & 0x7F != 0x7F else 1
        for task in _expand(name):
            tasks[task] = QueuedTask(task, state, exit_code, int(restart), reason, nodes)
    return tasks


def ask_queue(tasks: Iterable[str]) -> dict[str, QueuedTask] | None:
    """Ask SLURM for tasks, by one call for all.

    Args:
        tasks: Names of jobs or of tasks of arrays, such as ``17_3``.

    Returns:
        Name -> task, also of other tasks of the same arrays. SLURM forgets a task some minutes
        after its end; it is left out then. None if SLURM cannot be asked.

    Example:
        >>> ask_queue([])
        {}
    """
    arrays = sorted({task.partition("_")[0] for task in tasks})
    answer: dict[str, QueuedTask] = {}
    for start in range(0, len(arrays), _MAX_ARRAYS):
        part = _ask("-j", ",".join(arrays[start : start + _MAX_ARRAYS]))
        if part is None:
            return None
        answer |= part
    return answer


def ask_queue_by_name(name: str) -> dict[str, QueuedTask] | None:
    """Ask SLURM for the tasks of jobs that were submitted under a name.

    Args:
        name: The name.

    Returns:
        As :func:`ask_queue`.
    """
    return _ask("-n", name)


def _ask(*words: str) -> dict[str, QueuedTask] | None:
    done = ask_slurm("squeue", "-h", "-r", "-a", "-t", "all", *words, "-O", COLUMNS)
    if done is None:
        return None
    if done.returncode:  # of a single job that is forgotten; among several it is left out
        return {} if "Invalid job id" in done.stderr else None
    return parse_queue(done.stdout)


def _expand(name: str) -> Iterator[str]:
    """Return the names of the tasks that ``17_3`` or ``17_[2-4,7,10-20:5%6]`` stands for."""
    match = re.fullmatch(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]", name)
    if match is None:
        yield name
        return
    for part in match.group(2).split(","):
        bounds, _, step = part.partition(":")
        first, _, last = bounds.partition("-")
        for number in range(int(first), int(last or first) + 1, int(step or 1)):
            yield f"{match.group(1)}_{number}"
