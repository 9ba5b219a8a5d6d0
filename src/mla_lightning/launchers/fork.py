"""One process per job, forked from a parent that has imported everything once.

A job that raises, exits, hangs or is killed costs itself and nothing else, and importing torch and
Lightning, which takes longer than a small job, is paid once. What makes the fork safe: the parent
starts no thread, computes nothing with torch and never touches CUDA.
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
from types import FrameType
from typing import TYPE_CHECKING

from mla_lightning.errors import ConfigError, Interrupted, Preempted, RunError
from mla_lightning.launchers.base import Board, Ended, JobFunction
from mla_lightning.launchers.child import STOPPING, Child, fork_child
from mla_lightning.launchers.devices import plan_slots
from mla_lightning.run_folder import State

if TYPE_CHECKING:
    from mla_lightning.config import Job

POLL_S = 0.02
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
EXIT_CODES = {signal.SIGINT: Interrupted.exit_code, signal.SIGTERM: Preempted.exit_code}
STATES = {signal.SIGINT: State.INTERRUPTED, signal.SIGTERM: State.PREEMPTED}


class ForkLauncher:
    """Forks a process per job, a few at a time."""

    has_free_terminal = True

    def __init__(
        self,
        *,
        jobs: int | None = None,
        timeout_s: float | None = None,
        fail_fast: bool = False,
        grace_s: float = 30.0,
        job_function: JobFunction | None = None,
    ) -> None:
        """Set the limits; nothing is started yet.

        Args:
            jobs: The most jobs at a time, None for as many as the cores, or GPUs, allow.
            timeout_s: Wall seconds after which a job is ended, None for no limit.
            fail_fast: Stop the sweep at the first job that fails.
            grace_s: Seconds that a job has for its checkpoint between being asked to end and being
                killed.
            job_function: Runs one job, None for training.

        Raises:
            ConfigError: If a limit is not positive.
        """
        for name, value in (("jobs", jobs), ("timeout_s", timeout_s), ("grace_s", grace_s)):
            if value is not None and value <= 0:
                raise ConfigError(f"launcher.{name} must be positive, got {value}")
        self.jobs = jobs
        self.timeout_s = timeout_s
        self.fail_fast = fail_fast
        self.grace_s = grace_s
        self.job_function = job_function
        self.concurrency = 0
        self._slots: list[dict[str, str]] = []
        self._threads = 1

    def check(self, jobs: Sequence[Job]) -> None:
        """Find out whether this machine can run the jobs as asked.

        Args:
            jobs: The jobs.

        Raises:
            ConfigError: If their threads would fight for the cores.
        """
        trainers = [job.config.trainer for job in jobs]
        self._threads = max((trainer.threads for trainer in trainers), default=1)
        accelerators = {trainer.accelerator for trainer in trainers}
        self._slots = plan_slots(self.jobs, self._threads, accelerators)
        self.concurrency = len(self._slots)

    def launch(self, board: Board) -> int:
        """Run all jobs that can be taken.

        Args:
            board: Hands out the jobs.

        Returns:
            0; 130 or 143 if told to stop by SIGINT or SIGTERM, 1 if a failure stopped the sweep.
            No job runs any more.

        Raises:
            ConfigError: If the jobs' threads would fight for the cores.
            RunError: If CUDA was initialised in this process.
        """
        jobs = board.waiting()
        if not jobs:
            return 0
        self.check(jobs)
        with _limited_threads(self._threads):
            function = self.job_function or warm_up(jobs)
            refuse_cuda_in_parent()
            with _frozen_heap(), _noticed_signals() as noticed:
                pool = _Pool(self, board, function, noticed)
                try:
                    return pool.run(list(self._slots))
                finally:
                    pool.abandon()


class _Pool:
    """The processes of one launch."""

    def __init__(
        self,
        limits: ForkLauncher,
        board: Board,
        function: JobFunction,
        noticed: list[signal.Signals],
    ) -> None:
        self.limits = limits
        self.board = board
        self.function = function
        self.noticed = noticed
        self.running: list[Child] = []
        self.is_stopping = False
        self.exit_code = 0

    def run(self, free: list[dict[str, str]]) -> int:
        while True:
            self.heed_signals()
            while free and not self.is_stopping and (job := self.board.take()) is not None:
                self.start(job, free)
            if not self.running:
                return self.exit_code
            time.sleep(POLL_S)
            self.heed_clocks()
            for child in [child for child in self.running if child.has_ended()]:
                self.running.remove(child)
                free.append(child.slot)
                if not self.board.ended(child.job, child.outcome()) and self.limits.fail_fast:
                    self.exit_code = self.exit_code or RunError.exit_code
                    self.stop(signal.SIGTERM, "stopped because another job failed")
            self.board.tick()

    def start(self, job: Job, free: list[dict[str, str]]) -> None:
        try:
            child = fork_child(job, self.function, free[0])
        except OSError as error:
            self.board.ended(job, Ended(1, 0.0, os.getpid(), f"could not be started: {error}"))
        else:
            self.running.append(child)
            free.pop(0)

    def stop(self, number: signal.Signals, reason: str) -> None:
        self.is_stopping = True
        for child in self.running:
            child.ask_to_end(number, self.limits.grace_s, reason, STATES[number])

    def heed_signals(self) -> None:
        while self.noticed:
            number = self.noticed.pop(0)
            if self.exit_code in EXIT_CODES.values():  # asked twice: at once
                self.kill()
            else:
                self.exit_code = EXIT_CODES[number]
                self.stop(number, f"{STATES[number]} by {number.name}")

    def heed_clocks(self) -> None:
        limit = self.limits.timeout_s
        for child in self.running:
            if child.kill_at is not None and time.monotonic() > child.kill_at:
                child.kill()
            elif limit is not None and child.age_s() > limit:
                reason = f"timed out after {limit:g} s"
                child.ask_to_end(signal.SIGTERM, self.limits.grace_s, reason, State.FAILED)

    def kill(self) -> None:
        for child in self.running:
            child.kill()

    def abandon(self) -> None:
        """Leave no process behind, also when an error ends the launch."""
        self.kill()
        while self.running:
            if self.running[-1].has_ended():
                self.running.pop()
            else:
                time.sleep(POLL_S)


def warm_up(jobs: Sequence[Job]) -> JobFunction:
    """Import once, in the parent, everything that the jobs will use.

    Args:
        jobs: The jobs; the modules that their configs name as targets are imported.

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


def refuse_cuda_in_parent() -> None:
    """Refuse to fork a process that has initialised CUDA: its children could not use the GPU.

    Raises:
        RunError: If CUDA was initialised in this process.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise RunError(
            "CUDA was initialised before the jobs were forked, and a forked process cannot use it. "
            "Call the sweep before anything that uses the GPU, or use launcher=serial."
        )


@contextlib.contextmanager
def _limited_threads(threads: int) -> Iterator[None]:
    """Limit the thread pools of the libraries that are imported meanwhile, children included."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _frozen_heap() -> Iterator[None]:
    """Take what is imported out of the garbage collector, so that children share its memory."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def _noticed_signals() -> Iterator[list[signal.Signals]]:
    """Collect the signals that ask to stop, instead of stopping in the middle of anything."""
    noticed: list[signal.Signals] = []

    def notice(number: int, _frame: FrameType | None) -> None:
        noticed.append(signal.Signals(number))

    before = {number: signal.signal(number, notice) for number in STOPPING}
    try:
        yield noticed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
