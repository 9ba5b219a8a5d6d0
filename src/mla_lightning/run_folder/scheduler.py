"""The job of a scheduler that a process belongs to, and whether the scheduler has ended it.

A process on a machine that has failed cannot be asked whether it lives; its scheduler can.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

#: States in which a job of SLURM has processes. In all others (PENDING after a requeue, and the
#: final ones) those of its last start have ended.
RUNNING = {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"}
#: Longest time to wait for an answer of SLURM, and how long an answer is taken as current.
_TIMEOUT_S, _CURRENT_S = 20.0, 5.0
#: Engine other than SLURM -> a function that says whether it has ended a task, where it is known.
ENDED: dict[str, Callable[[Mapping[str, Any]], bool]] = {}
_NAMED_BY = ("scheduler", "cluster", "job")
_task: dict[str, Any] | None = None


def enter_task(task: dict[str, Any] | None) -> None:
    """Let this process belong to a task of an engine that sets no variables, such as Ray.

    Args:
        task: ``scheduler``, ``cluster``, ``job`` and ``restart``, as of :func:`this_job`; None to
            belong to none.

    Example:
        >>> enter_task({"scheduler": "ray", "cluster": "session_1", "job": "c8ef", "restart": 0})
        >>> this_job()["job"]
        'c8ef'
        >>> enter_task(None)
    """
    global _task
    _task = task


def this_job() -> dict[str, Any] | None:
    """Return the job of a scheduler that this process belongs to; None outside of any.

    Returns:
        ``scheduler``, ``cluster``, ``job`` (of a task of an array its own number), ``task`` (its
        name in the queue, of an array ``ARRAY_NUMBER``) and ``restart``, the number of times that
        it was requeued. A task of Ray within a job of SLURM names the latter as ``within``.

    Example:
        >>> os.environ |= {"SLURM_JOB_ID": "17", "SLURM_CLUSTER_NAME": "lab"}
        >>> this_job()
        {'scheduler': 'slurm', 'cluster': 'lab', 'job': '17', 'task': '17', 'restart': 0}
        >>> del os.environ["SLURM_JOB_ID"], os.environ["SLURM_CLUSTER_NAME"]
        >>> this_job()
    """
    if _task is not None:
        return {**_task, "within": _slurm_job()}
    return _slurm_job()


def _slurm_job() -> dict[str, Any] | None:
    job = os.environ.get("SLURM_JOB_ID", "")
    if not job.isdecimal():
        return None
    restart = os.environ.get("SLURM_RESTART_COUNT", "")
    array = os.environ.get("SLURM_ARRAY_JOB_ID", "")
    number = os.environ.get("SLURM_ARRAY_TASK_ID", "")
    return {
        "scheduler": "slurm",
        "cluster": os.environ.get("SLURM_CLUSTER_NAME", ""),
        "job": job,
        "task": f"{array}_{number}" if array and number else job,
        "restart": int(restart) if restart.isdecimal() else 0,
    }


def has_ended(job: Mapping[str, Any] | None) -> bool:
    """Return whether a scheduler has ended the start of a job that a process belonged to.

    It has if this process belongs to a later start of the same job, or if SLURM says that the job
    does not run, or runs in a later start, or Ray that its node has died. Where they cannot be
    asked, or are another cluster, it counts as running.

    Args:
        job: What :func:`this_job` returned in that process; None for none.

    Example:
        >>> has_ended(None)
        False
        >>> first = {"scheduler": "slurm", "cluster": "lab", "job": "17", "restart": 0}
        >>> names = {"SLURM_JOB_ID": "17", "SLURM_CLUSTER_NAME": "lab", "SLURM_RESTART_COUNT": "1"}
        >>> os.environ |= names
        >>> has_ended(first), has_ended(first | {"restart": 1})
        (True, False)
        >>> for name in names:
        ...     del os.environ[name]
    """
    if not isinstance(job, Mapping) or type(job.get("restart")) is not int:
        return False
    if isinstance(job.get("within"), Mapping) and has_ended(job["within"]):
        return True
    number, restart = str(job.get("job", "")), job["restart"]
    for mine in (_task, _slurm_job()):
        if mine and number and all(mine[key] == job.get(key) for key in _NAMED_BY):
            return bool(mine["restart"] > restart)
    if job.get("scheduler") in ENDED:
        return ENDED[job["scheduler"]](job)
    if job.get("scheduler") != "slurm" or not number.isdecimal():
        return False
    if not job.get("cluster") or job["cluster"] != cluster_here():
        return False
    answer = _starts(number, int(time.monotonic() / _CURRENT_S))
    if answer is None:
        return False
    return not any(state in RUNNING and count <= restart for state, count in answer)


def cluster_here() -> str:
    """Return the name of the SLURM cluster whose commands this machine has; empty without any.

    Example:
        >>> os.environ["SLURM_CLUSTER_NAME"] = "lab"
        >>> cluster_here()
        'lab'
        >>> del os.environ["SLURM_CLUSTER_NAME"]
    """
    return _cluster(int(time.monotonic() / _CURRENT_S))


@lru_cache(maxsize=1)
def _cluster(_period: int) -> str:
    if name := os.environ.get("SLURM_CLUSTER_NAME"):
        return name
    done = ask_slurm("scontrol", "show", "config")
    if done is None or done.returncode:
        return ""
    lines = (line.partition("=") for line in done.stdout.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == "ClusterName"), "")


@lru_cache(maxsize=10_000)
def _starts(job: str, _period: int) -> tuple[tuple[str, int], ...] | None:
    """Return state and number of requeues of a job; () if SLURM has forgotten it; None if unknown.

    A job is forgotten some minutes after its end (``MinJobAge``).
    """
    done = ask_slurm("squeue", "-h", "-t", "all", "-j", job, "-O", "State:|,RestartCnt:|")
    if done is None:
        return None
    if done.returncode:
        return () if "Invalid job id" in done.stderr else None
    rows = [line.split("|") for line in done.stdout.splitlines() if line.strip()]
    if any(len(row) < 2 or not row[1].strip().isdecimal() for row in rows):
        return None
    return tuple((row[0].strip(), int(row[1])) for row in rows)


def ask_slurm(*words: str) -> subprocess.CompletedProcess[str] | None:
    """Run a command of SLURM.

    Args:
        *words: The command and its arguments.

    Returns:
        What it printed and its exit code; None if there is no such command or it does not answer.

    Example:
        >>> ask_slurm("squeue of a cluster that does not exist") is None
        True
    """
    if shutil.which(words[0]) is None:
        return None
    # a user's defaults of squeue would filter or format the answer
    variables = {name: v for name, v in os.environ.items() if not name.startswith("SQUEUE_")}
    try:
        return subprocess.run(
            words, env=variables, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
