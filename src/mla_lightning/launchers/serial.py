"""Launcher that runs all jobs in this process, one after another, so that breakpoints work."""

from __future__ import annotations

import importlib
import os
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mla_lightning.errors import ConfigError, Interrupted, Preempted, RunError
from mla_lightning.launchers.base import JobExit, JobFunction, JobQueue
from mla_lightning.launchers.child import exit_code_of
from mla_lightning.launchers.devices import check_processes, plan_slots
from mla_lightning.run_folder import State

if TYPE_CHECKING:
    from mla_lightning.config import Job


class SerialLauncher:
    """Runs jobs in this process; a job that kills the process ends the sweep."""

    has_free_terminal = False
    is_for_several = True

    def __init__(self, *, fail_fast: bool = False, job_function: JobFunction | None = None) -> None:
        """Set the behaviour after a failure.

        Args:
            fail_fast: Whether to stop at the first job that fails.
            job_function: Function that runs one job; None for training.
        """
        self.fail_fast = fail_fast
        self.job_function = job_function
        self.concurrency = 1

    def check(self, jobs: Sequence[Job]) -> None:
        """Check that this machine has enough cores.

        Args:
            jobs: The jobs.

        Raises:
            ConfigError: If a job needs more cores than this process may use.
        """
        check_processes(jobs, "serial")
        for job in jobs:
            trainer = job.config.trainer
            # A job alone asks torch for its GPUs: a process that knows them cannot fork any more.
            plan_slots(1, trainer.threads, (), devices=trainer.num_ranks)
            if trainer.num_ranks > 1 and trainer.accelerator != "cpu" and len(jobs) > 1:
                raise ConfigError(
                    f"launcher=serial runs all jobs in one process, which cannot start others "
                    f"(trainer.devices={trainer.devices}) once it has used a GPU. Use "
                    "launcher=fork launcher.jobs=1."
                )

    def launch(self, queue: JobQueue) -> int:
        """Run all jobs that can be taken.

        Args:
            queue: The jobs of the sweep.

        Returns:
            0; 130 or 143 if a signal stopped a job, 1 if a failure stopped the sweep.
        """
        self.check(queue.waiting())
        while (job := queue.take()) is not None:
            job_exit = self._run(job)
            if not queue.record_exit(job, job_exit):
                if job_exit.exit_code in (Interrupted.exit_code, Preempted.exit_code):
                    return job_exit.exit_code
                if self.fail_fast:
                    return RunError.exit_code
            queue.refresh()
        return 0

    def _run(self, job: Job) -> JobExit:
        function = self.job_function or importlib.import_module("mla_lightning.run.train").run_job
        started = time.monotonic()
        state = State.FAILED
        try:
            code = function(job)
        except SystemExit as error:
            code = exit_code_of(error)
        except KeyboardInterrupt:
            code, state = Interrupted.exit_code, State.INTERRUPTED
        except Exception:  # an error of one job must not end the others
            traceback.print_exc()
            code = 1
        return JobExit(code, time.monotonic() - started, os.getpid(), state=state)
