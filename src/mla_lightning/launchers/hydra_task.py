"""Tasks of a launcher plugin of Hydra: each forks the process of one job and waits for it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.errors import MLAError, RunError, reason_of
from mla_lightning.launchers.base import JobExit, JobFunction
from mla_lightning.launchers.child import fork_child
from mla_lightning.launchers.foreign import enter_folder, job_from_text, run_foreign_job
from mla_lightning.launchers.fork import POLL_S, warm_up
from mla_lightning.run_folder import State, write_text
from mla_lightning.run_folder.forks import THREAD_VARIABLES
from mla_lightning.run_folder.lock import RunLock, lock_file
from mla_lightning.run_folder.stop_signals import collected_signals, exit_code_of_signal

if TYPE_CHECKING:
    from mla_lightning.config import Job

#: Seconds between looks of a task for a request to stop.
LOOK_S = 0.2


def run_task(
    config: Mapping[str, Any],
    *,
    folder: str,
    place: str,
    grace_s: float,
    ends_with_sweep: bool,
    function: JobFunction | None,
) -> None:
    """Run one job, in a process of the plugin's choice, and write how it ended.

    Args:
        config: The number of the job, as ``job``.
        folder: The folder of the sweep's tasks.
        place: The folder in which the sweep was started.
        grace_s: Seconds from the request to stop until the job is killed.
        ends_with_sweep: Whether the job ends, with a checkpoint, when the sweep has died.
        function: Function that runs the job; None for training.

    Raises:
        RunError: If the plugin runs tasks in threads, where no signal can stop them.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RunError("it runs tasks in threads of one process, and jobs need processes")
    path = Path(folder) / str(config["job"])
    requested = functools.partial(_requested, path.parent, ends_with_sweep)
    if requested() is not None or not path.with_suffix(".yaml").exists():
        return
    job = job_from_text(path.with_suffix(".yaml").read_text(encoding="utf-8"))
    with path.with_suffix(".begun").open("w") as begun:
        lock_file(begun.fileno())
        job_exit = _run(job, requested, place, grace_s, function)
        content = {name: getattr(job_exit, name) for name in job_exit.__dataclass_fields__}
        with contextlib.suppress(OSError):  # the sweep was left, and its folder removed
            write_text(path.with_suffix(".json"), json.dumps(content))


def _run(
    job: Job,
    requested: Callable[[], signal.Signals | None],
    place: str,
    grace_s: float,
    function: JobFunction | None,
) -> JobExit:
    """Fork the process of a job, and pass requests to stop on to it."""
    threads = dict.fromkeys(THREAD_VARIABLES, str(job.config.trainer.threads))
    next_look = 0.0
    with collected_signals() as signals:
        try:
            enter_folder(place, job.overrides)
            if function is None:
                warm_up([job])
            child = fork_child(job, function or run_foreign_job, threads)
        except (MLAError, OSError) as error:
            return JobExit(1, 0.0, os.getpid(), f"could not be started: {reason_of(error)}")
        while not child.has_ended():
            number = signals.pop(0) if signals else None
            if number is None and time.monotonic() > next_look:
                next_look = time.monotonic() + LOOK_S
                number = requested()
            if number == signal.SIGKILL or time.monotonic() > (child.kill_at or float("inf")):
                child.kill()
            elif number is not None:
                state = State.of_exit_code(exit_code_of_signal(number))
                child.request_stop(number, grace_s, f"{state} by {number.name}", state)
            time.sleep(POLL_S)
        return child.job_exit()


def _requested(folder: Path, ends_with_sweep: bool) -> signal.Signals | None:
    """Return the signal by which the sweep asks all tasks to stop; None if it does not."""
    try:
        return signal.Signals(int((folder / "stop").read_text(encoding="ascii")))
    except (OSError, ValueError):
        is_alone = ends_with_sweep and RunLock(folder).holder() is None
        return signal.SIGTERM if is_alone else None
