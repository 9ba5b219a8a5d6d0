"""Launcher that forks a process for each job, from a parent that has imported everything once.

A job that raises, exits, hangs or is killed does not affect other jobs, and torch and Lightning,
whose import takes longer than a small job, are imported once. The fork is safe because the parent
starts no thread, computes nothing with torch and does not initialise CUDA.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mla_lightning.errors import ConfigError, Interrupted, Preempted, RunError, reason_of
from mla_lightning.launchers.base import JobExit, JobFunction, JobQueue
from mla_lightning.launchers.child import Child, fork_child
from mla_lightning.launchers.devices import check_processes, plan_slots
from mla_lightning.run_folder import State
from mla_lightning.run_folder.forks import limited_threads
from mla_lightning.run_folder.stop_signals import WARNINGS, collected_signals, exit_code_of_signal

if TYPE_CHECKING:
    from mla_lightning.config import Job

POLL_S = 0.02


class ForkLauncher:
    """Runs each job in a forked process, several at a time.

    Example:
        >>> ForkLauncher(jobs=0)
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: launcher.jobs must be positive, got 0
    """

    has_free_terminal = True
    is_for_several = True

    def __init__(
        self,
        *,
        jobs: int | None = None,
        jobs_per_gpu: int = 1,
        timeout_s: float | None = None,
        fail_fast: bool = False,
        grace_s: float = 30.0,
        job_function: JobFunction | None = None,
    ) -> None:
        """Set the limits; nothing is started yet.

        Args:
            jobs: Number of jobs at a time; None for as many as the cores or GPUs allow.
            jobs_per_gpu: Number of jobs at a time on one GPU.
            timeout_s: Wall seconds after which a job is stopped; None for no limit.
            fail_fast: Whether to stop the sweep at the first job that fails.
            grace_s: Seconds from the request to stop until a job is killed, in which it writes a
                checkpoint.
            job_function: Function that runs one job; None for training.

        Raises:
            ConfigError: If a limit is not positive.
        """
        limits: dict[str, float | None] = {"jobs": jobs, "jobs_per_gpu": jobs_per_gpu}
        limits |= {"timeout_s": timeout_s, "grace_s": grace_s}
        for name, value in limits.items():
            if value is not None and value <= 0:
                raise ConfigError(f"launcher.{name} must be positive, got {value}")
        self.jobs, self.jobs_per_gpu = jobs, jobs_per_gpu
        self.timeout_s = timeout_s
        self.fail_fast = fail_fast
        self.grace_s = grace_s
        self.job_function = job_function
        self.concurrency = 0
        self._slots: list[dict[str, str]] = []
        self._threads = 1

    def check(self, jobs: Sequence[Job]) -> None:
        """Check that this machine has enough cores, and plan the slots for the jobs.

        Args:
            jobs: The jobs.

        Raises:
            ConfigError: If the jobs need more cores than this process may use.
        """
        check_processes(jobs, "fork")
        trainers = [job.config.trainer for job in jobs]
        self._threads = max((trainer.threads for trainer in trainers), default=1)
        accelerators = {trainer.accelerator for trainer in trainers}
        devices = max((trainer.num_ranks for trainer in trainers), default=1)
        self._slots = plan_slots(
            self.jobs,
            self._threads,
            accelerators,
            devices=devices,
            jobs_per_gpu=self.jobs_per_gpu,
        )
        self.concurrency = len(self._slots)

    def launch(self, queue: JobQueue) -> int:
        """Run all jobs that can be taken; none is running when it returns.

        Args:
            queue: The jobs of the sweep.

        Returns:
            0; 130 if Ctrl-C, 143 if another signal stopped the sweep, 1 if a failure did.

        Raises:
            ConfigError: If the jobs need more cores than this process may use.
            RunError: If CUDA was initialised in this process.
        """
        jobs = queue.waiting()
        if not jobs:
            return 0
        self.check(jobs)
        with limited_threads(self._threads):
            function = self.job_function or warm_up(jobs)
            require_no_cuda()
            with _frozen_heap(), collected_signals() as signals:
                pool = _Pool(self, queue, function, signals)
                try:
                    return pool.run(list(self._slots))
                finally:
                    pool.kill_and_wait()


class _Pool:
    """The processes of one launch."""

    def __init__(
        self,
        limits: ForkLauncher,
        queue: JobQueue,
        function: JobFunction,
        signals: list[signal.Signals],
    ) -> None:
        self.limits = limits
        self.queue = queue
        self.function = function
        self.signals = signals
        self.running: list[Child] = []
        self.is_stopping = False
        self.exit_code = 0

    def run(self, free_slots: list[dict[str, str]]) -> int:
        while True:
            self.handle_signals()
            while free_slots and not self.is_stopping and (job := self.queue.take()) is not None:
                self.start(job, free_slots)
            if not self.running:
                return self.exit_code
            time.sleep(POLL_S)
            self.handle_timeouts()
            for child in [child for child in self.running if child.has_ended()]:
                self.running.remove(child)
                free_slots.append(child.slot)
                is_done = self.queue.record_exit(child.job, child.job_exit())
                if not is_done and self.limits.fail_fast:
                    self.exit_code = self.exit_code or RunError.exit_code
                    self.stop(signal.SIGTERM, "stopped because another job failed")
            self.queue.refresh()

    def start(self, job: Job, free_slots: list[dict[str, str]]) -> None:
        try:
            child = fork_child(job, self.function, free_slots[0])
        except OSError as error:
            reason = f"could not be started: {reason_of(error)}"
            self.queue.record_exit(job, JobExit(1, 0.0, os.getpid(), reason))
        else:
            self.running.append(child)
            free_slots.pop(0)

    def stop(self, number: signal.Signals, reason: str) -> None:
        self.is_stopping = True
        for child in self.running:
            state = State.of_exit_code(exit_code_of_signal(number))
            child.request_stop(number, self.limits.grace_s, reason, state)

    def handle_signals(self) -> None:
        while self.signals:
            number = self.signals.pop(0)
            is_second = self.exit_code in (Interrupted.exit_code, Preempted.exit_code)
            if is_second and number not in WARNINGS:  # the second signal stops at once
                self.kill()
            elif not is_second:
                self.exit_code = exit_code_of_signal(number)
                state = State.of_exit_code(self.exit_code)
                self.stop(number, f"{state} by {number.name}")

    def handle_timeouts(self) -> None:
        limit = self.limits.timeout_s
        for child in self.running:
            if child.kill_at is not None and time.monotonic() > child.kill_at:
                child.kill()
            elif limit is not None and child.age_s() > limit:
                reason = f"timed out after {limit:g} s"
                child.request_stop(signal.SIGTERM, self.limits.grace_s, reason, State.FAILED)

    def kill(self) -> None:
        for child in self.running:
            child.kill()

    def kill_and_wait(self) -> None:
        """Kill all processes that still run, after an error in the launcher, and wait for them."""
        self.kill()
        while self.running:
            if self.running[-1].has_ended():
                self.running.pop()
            else:
                time.sleep(POLL_S)


def warm_up(jobs: Sequence[Job]) -> JobFunction:
    """Import in the parent the modules that the jobs will use.

    Args:
        jobs: The jobs; modules of the ``_target_`` classes in their configs are imported.

    Returns:
        The function that runs one job.
    """
    from mla_lightning.config.targets import TARGET, is_allowed, targets_of

    train = importlib.import_module("mla_lightning.run.train")
    for job in jobs[:1]:
        importlib.import_module("mla_lightning.loggers.build").import_ahead(job.config)
    targets = {node[TARGET] for job in jobs for _, node in targets_of(job.config.tree)}
    for module in sorted({target.rpartition(".")[0] for target in targets if is_allowed(target)}):
        with contextlib.suppress(Exception):  # the job that needs it reports the failure
            importlib.import_module(module)
    function: JobFunction = train.run_job
    return function


def require_no_cuda() -> None:
    """Check that this process has not initialised CUDA, which its children could not use then.

    Raises:
        RunError: If CUDA was initialised in this process.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise RunError(
            "CUDA was initialised before the jobs were forked, and a forked process cannot use it. "
            "Start the sweep before anything that uses the GPU, or use launcher=serial."
        )


@contextlib.contextmanager
def _frozen_heap() -> Iterator[None]:
    """Exclude existing objects from garbage collection, so that children share their memory."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
