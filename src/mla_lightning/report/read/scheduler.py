"""States of runs that a scheduler has, from one question for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mla_lightning.errors import RunError
from mla_lightning.report.read.run import Run
from mla_lightning.run_folder import STATUS, State, read_json
from mla_lightning.run_folder.scheduler import cluster_here
from mla_lightning.run_folder.squeue import QueuedTask, ask_queue

#: States in which a scheduler may know more than the run folder.
_OPEN = (State.QUEUED, State.RUNNING, State.KILLED, State.PREEMPTED, State.FAILED)


def ask_scheduler(runs: Sequence[Run]) -> list[Run]:
    """Complete the states of runs that SLURM has, if it can be asked on this machine.

    Args:
        runs: Any runs. SLURM is asked once, and not at all if it has none of them.

    Returns:
        The runs, in the same order.
    """
    tasks = {}
    for number, run in enumerate(runs):
        if run.state in _OPEN and run.path is not None and (task := _task_of(run)):
            tasks[number] = task
    if not tasks:
        return list(runs)
    answer = ask_queue(tasks.values())
    if answer is None:
        return list(runs)
    completed = list(runs)
    for number, task in tasks.items():
        completed[number] = complete_run(runs[number], task, answer.get(task))
    return completed


def complete_run(run: Run, task: str, queued: QueuedTask | None) -> Run:
    """Complete the state of one run by what SLURM says.

    Args:
        run: A run that is not finished.
        task: Its task.
        queued: The task in the queue; None if SLURM has forgotten it.

    Example:
        >>> run = Run(run="a", where="", state=State.PREEMPTED, reason="Ended by SIGUSR2")
        >>> run = complete_run(run, "17_3", QueuedTask("17_3", "PENDING", 0, 1, "BeginTime"))
        >>> print(f"{run.state}: {run.reason}")
        queued: SLURM job 17_3 goes on by itself, requeued 1 times (BeginTime)
    """
    if queued is not None and queued.is_waiting:
        why = f" ({queued.reason})" if queued.reason else ""
        reason = f"SLURM job {task} waits{why}"
        if queued.restart:
            reason = f"SLURM job {task} goes on by itself, requeued {queued.restart} times{why}"
        return replace(run, state=State.QUEUED, reason=reason)
    if run.state == State.QUEUED:
        if queued is None:
            text = f"SLURM does not know job {task} any more; run the same command again"
            return replace(run, state=State.KILLED, reason=text)
        if not queued.is_active:
            text = f"SLURM job {task} ended before the run began ({queued.state})"
            return replace(run, state=State.KILLED, reason=f"{text}; run the same command again")
        return replace(run, reason=f"SLURM job {task} starts on {queued.nodes}")
    if run.state == State.KILLED and queued is not None and not queued.is_active:
        return replace(run, reason=f"SLURM job {task} ended ({queued.state}); {run.reason}")
    return run


def of_task(status: Mapping[str, Any]) -> str:
    """Return the SLURM job of a status as the end of a text; empty outside of SLURM.

    Example:
        >>> of_task({"scheduler_job": {"scheduler": "slurm", "cluster": "lab", "task": "17_3"}})
        ' (SLURM job 17_3 of cluster lab)'
    """
    job = status.get("scheduler_job")
    if not isinstance(job, Mapping) or not job.get("task"):
        return ""
    cluster = f" of cluster {job['cluster']}" if job.get("cluster") else ""
    return f" (SLURM job {job['task']}{cluster})"


def _task_of(run: Run) -> str:
    """Return the task of a run if it belongs to this machine's cluster; empty if not."""
    assert run.path is not None
    try:
        job = (read_json(run.path / STATUS) or {}).get("scheduler_job")
    except (OSError, RunError):
        return ""
    if not isinstance(job, Mapping) or job.get("scheduler") != "slurm":
        return ""
    return str(job.get("task") or "") if job.get("cluster") == cluster_here() else ""
