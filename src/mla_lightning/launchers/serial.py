"""All jobs in this process, one after another: for debugging, breakpoints work."""

from __future__ import annotations

import importlib
import os
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mla_lightning.errors import Interrupted, Preempted, RunError
from mla_lightning.launchers.base import Board, Ended, JobFunction
from mla_lightning.launchers.child import exit_code_of
from mla_lightning.launchers.devices import plan_slots
from mla_lightning.run_folder import State

if TYPE_CHECKING:
    from mla_lightning.config import Job


class SerialLauncher:
    """Runs jobs in this process. A job that kills the process ends the sweep."""

    has_free_terminal = False

    def __init__(self, *, fail_fast: bool = False, job_function: JobFunction | None = None) -> None:
        """Set what happens at a failure.

        Args:
            fail_fast: Stop at the first job that fails.
            job_function: Runs one job, None for training.
        """
        self.fail_fast = fail_fast
        self.job_function = job_function
        self.concurrency = 1

    def check(self, jobs: Sequence[Job]) -> None:
        """Find out whether this machine can run the jobs as asked.

        Args:
            jobs: The jobs.

        Raises:
            ConfigError: If a job asks for more threads than there are cores.
        """
        for job in jobs:
            plan_slots(1, job.config.trainer.threads, ())

    def launch(self, board: Board) -> int:
        """Run all jobs that can be taken.

        Args:
            board: Hands out the jobs.

        Returns:
            0; 130 or 143 if a job was told to stop, 1 if a failure stopped the sweep.
        """
        self.check(board.waiting())
        while (job := board.take()) is not None:
            how = self._run(job)
            if not board.ended(job, how):
                if how.exit_code in (Interrupted.exit_code, Preempted.exit_code):
                    return how.exit_code
                if self.fail_fast:
                    return RunError.exit_code
            board.tick()
        return 0

    def _run(self, job: Job) -> Ended:
        function = self.job_function or importlib.import_module("mla_lightning.run.train").run_job
        started = time.monotonic()
        state = State.FAILED
        try:
            code = function(job)
        except SystemExit as error:
            code = exit_code_of(error)
        except KeyboardInterrupt:
            code, state = Interrupted.exit_code, State.INTERRUPTED
        except Exception:  # one job's fault must not end the others
            traceback.print_exc()
            code = 1
        return Ended(code, time.monotonic() - started, os.getpid(), state=state)
