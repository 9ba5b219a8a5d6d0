"""Launcher that runs each job as a task of Ray, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from mla_lightning.errors import ConfigError, MLAError, Preempted, RunError, reason_of
from mla_lightning.launchers.base import JobExit, JobFunction, JobQueue
from mla_lightning.launchers.child import redirect_to, run_to_exit_code
from mla_lightning.launchers.devices import visible_cores, visible_gpus
from mla_lightning.launchers.foreign import check_one_machine, enter_folder, run_foreign_job
from mla_lightning.run_folder import LOG, State, scheduler
from mla_lightning.run_folder.forks import THREAD_VARIABLES
from mla_lightning.run_folder.schema import Above, AtLeast, AtMost, Count
from mla_lightning.run_folder.stop_signals import WARNINGS, collected_signals, exit_code_of_signal
from mla_lightning.run_folder.writing import open_file

if TYPE_CHECKING:
    from mla_lightning.config import Job

POLL_S = 0.2
#: Nothing but exit codes is in Ray's object store, which would take a third of the memory.
STORE_BYTES = 100 * 2**20


class RayLauncher:
    """Runs jobs as tasks of Ray, each in a new worker process.

    Example:
        >>> RayLauncher(gpus=1.5)
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: launcher.gpus=1.5: above 1 it must be a whole number
    """

    has_free_terminal = True

    def __init__(
        self,
        *,
        address: str | None = None,
        jobs: Count | None = None,
        cpus: Annotated[float, Above(0), AtMost(1024)] | None = None,
        gpus: Annotated[float, AtLeast(0), AtMost(64)] | None = None,
        retries: Annotated[int, AtLeast(0), AtMost(1000)] = 3,
        fail_fast: bool = False,
        grace_s: float = 30.0,
        job_function: JobFunction | None = None,
    ) -> None:
        """Store the settings; Ray is started by :meth:`launch`.

        Args:
            address: Address of a cluster, or ``auto`` for the one that runs on this machine; None
                starts one on this machine and stops it afterwards.
            jobs: Number of jobs at a time; None for as many as the nodes have CPUs and GPUs for.
            cpus: CPUs of a job; None for ``trainer.threads``, of each process of a job.
            gpus: GPUs of a job, which may be a fraction; None for one per process that uses one.
            retries: How often a job goes on after its worker was killed, or was ended by SIGTERM.
            fail_fast: Whether to stop the sweep at the first job that fails.
            grace_s: Seconds from the request to stop until a job is killed, in which it writes a
                checkpoint.
            job_function: Function that runs one job; None for training.

        Raises:
            ConfigError: If Ray cannot divide GPUs so, or the address is one of Ray Client.
        """
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise ConfigError(f"launcher.gpus={gpus:g}: above 1 it must be a whole number")
        if address is not None and address.startswith("ray://"):
            raise ConfigError(
                f"launcher.address={address}: Ray Client cannot be used. Run mla on a machine of "
                "the cluster, with launcher.address=auto"
            )
        self.address = address
        self.jobs = jobs
        self.cpus = cpus
        self.gpus = gpus
        self.retries = retries
        self.fail_fast = fail_fast
        self.grace_s = grace_s
        self.job_function = job_function
        self.concurrency = 0
        #: Whether the jobs run on this machine, which can be checked for them then.
        self.runs_here = address is None

    def check(self, jobs: Sequence[Job]) -> None:
        """Check that Ray is installed, and that its nodes have what the jobs need.

        Args:
            jobs: The jobs.

        Raises:
            ConfigError: If Ray is not installed, no cluster answers, or a job fits on no node.
        """
        if importlib.util.find_spec("ray") is None:
            raise ConfigError("launcher=ray needs Ray: pip install 'mla_lightning[ray]'")
        check_one_machine(jobs, "ray")
        nodes = self._nodes()
        has_gpus = any(gpus for _, gpus in nodes)
        needs = [self.needs_of(job, has_gpus) for job in jobs]
        if self.gpus and not any(gpus for _, gpus in needs):
            raise ConfigError(
                f"launcher.gpus={self.gpus:g} has no effect: the jobs use no GPU. Write "
                "trainer=gpu, or leave out launcher.gpus"
            )
        cpus, gpus = (max(column, default=0.0) for column in zip(*needs, strict=True))
        numbers = [int(min(c / cpus, g / gpus if gpus else c / cpus)) for c, g in nodes]
        if not sum(numbers) and (self.jobs is None or self.address is None):
            largest = max(nodes, default=(0.0, 0.0), key=lambda node: (node[1] >= gpus, *node))
            hint = "Use fewer trainer.threads or launcher.cpus, or a smaller launcher.gpus."
            if self.address is not None:
                hint += " Where nodes are started on demand, give launcher.jobs."
            raise ConfigError(
                f"A job needs {_words(cpus, gpus)}, and no node of Ray has that: the largest has "
                f"{_words(*largest)}. {hint}"
            )
        self.concurrency = self.jobs or sum(numbers)
        if self.address is None:
            self.concurrency = min(self.concurrency, sum(numbers))

    def needs_of(self, job: Job, has_gpus: bool) -> tuple[float, float]:
        """Return the CPUs and GPUs of a job.

        Args:
            job: The job.
            has_gpus: Whether any node has a GPU, which ``trainer.accelerator=auto`` uses then.
        """
        trainer = job.config.trainer
        num_processes = trainer.devices
        uses_gpu = trainer.accelerator in ("gpu", "cuda")
        uses_gpu = uses_gpu or (trainer.accelerator == "auto" and has_gpus)
        gpus = float(num_processes) if self.gpus is None else self.gpus
        cpus = self.cpus or float(trainer.threads * num_processes)
        return cpus, gpus if uses_gpu else 0.0

    def _nodes(self) -> list[tuple[float, float]]:
        """Return the CPUs and GPUs of each node."""
        if self.address is None:
            return [(float(visible_cores()), float(len(visible_gpus())))]
        with self.started() as ray:
            resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in resources]

    @contextlib.contextmanager
    def started(self) -> Iterator[Any]:
        """Start Ray, or connect to a cluster, until the context ends.

        It may be entered again meanwhile.

        Raises:
            ConfigError: If no cluster answers.
            RunError: If Ray does not start on this machine.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if self.address is None and "ray" not in sys.modules:  # it is read by the import
            # Without a token any user of this machine could run code as this one.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        import ray

        if ray.is_initialized():  # by a program that starts sweeps itself
            yield ray
            return
        options: dict[str, Any] = {"address": self.address or "local", "log_to_driver": False}
        if self.address is None:
            options |= {"num_cpus": visible_cores(), "include_dashboard": False}
            options |= {"object_store_memory": STORE_BYTES}
            options |= {"_system_config": {"task_oom_retries": self.retries}}
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(logging_level=logging.ERROR, **options)
        except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
            ray.shutdown()
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            if self.address is None:
                raise RunError(f"Ray does not start on this machine: {reason}") from error
            raise ConfigError(
                f"launcher.address={self.address}: no cluster of Ray answers ({reason}). Start one "
                "with `ray start --head`, or leave out launcher.address"
            ) from error
        finally:
            signal.signal(signal.SIGTERM, before)
        scheduler.ENDED["ray"] = functools.partial(_is_on_dead_node, ray)
        try:
            yield ray
        finally:
            del scheduler.ENDED["ray"]
            ray.shutdown()

    def launch(self, queue: JobQueue) -> int:
        """Run all jobs that can be taken; none is running when it returns.

        Args:
            queue: The jobs of the sweep.

        Returns:
            0; 130 if Ctrl-C, 143 if another signal stopped the sweep, 1 if a failure did.
        """
        if not queue.waiting():
            return 0
        with self.started() as ray, collected_signals() as signals:
            return _Tasks(self, ray, queue, signals).run()


class _Tasks:
    """The tasks of one launch."""

    def __init__(
        self, launcher: RayLauncher, ray: Any, queue: JobQueue, signals: list[signal.Signals]
    ) -> None:
        self.launcher = launcher
        self.ray = ray
        self.queue = queue
        self.signals = signals
        self.running: dict[Any, tuple[Job, float]] = {}
        self.exit_code = 0
        self.stop_reason = ""
        self.kill_at = float("inf")
        self.has_gpus = ray.cluster_resources().get("GPU", 0) > 0
        options = {"max_retries": launcher.retries, "retry_exceptions": [Preempted]}
        self.task = ray.remote(max_calls=1, **options)(run_task)  # a new process for each job

    def run(self) -> int:
        """Run tasks until none is left."""
        while True:
            self.handle_signals()
            is_full = len(self.running) >= self.launcher.concurrency
            if not (is_full or self.stop_reason) and (job := self.queue.take()) is not None:
                self.running[self.start(job)] = job, time.monotonic()
                continue
            if not self.running:
                return self.exit_code
            done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=POLL_S)
            for task in done:
                self.record(task, *self.running.pop(task))
            if time.monotonic() > self.kill_at:
                self.cancel(force=True)
            self.queue.refresh()

    def start(self, job: Job) -> Any:
        """Start the task of a job."""
        threads = str(job.config.trainer.threads)
        cpus, gpus = self.launcher.needs_of(job, self.has_gpus)
        options = {"num_cpus": cpus, "num_gpus": gpus, "name": job.title}
        options["runtime_env"] = {"env_vars": dict.fromkeys(THREAD_VARIABLES, threads)}
        place = os.getcwd()  # noqa: PTH109
        return self.task.options(**options).remote(job, place, self.launcher.job_function)

    def handle_signals(self) -> None:
        while self.signals:
            number = self.signals.pop(0)
            if not self.stop_reason:
                self.exit_code = exit_code_of_signal(number)
                self.stop(f"{State.of_exit_code(self.exit_code)} by {number.name}")
            elif number not in WARNINGS:  # the second signal stops at once
                self.cancel(force=True)

    def stop(self, reason: str) -> None:
        self.stop_reason = reason
        self.kill_at = time.monotonic() + self.launcher.grace_s
        self.cancel(force=False)

    def cancel(self, *, force: bool) -> None:
        """Interrupt all tasks, as Ctrl-C does, or kill their processes."""
        if force:
            self.kill_at = float("inf")
        for task in self.running:
            self.ray.cancel(task, force=force)

    def record(self, task: Any, job: Job, started: float) -> None:
        """Record how a task ended."""
        errors, age = self.ray.exceptions, time.monotonic() - started
        state = State.of_exit_code(self.exit_code) if self.exit_code else State.FAILED
        try:
            code, seconds, pid = self.ray.get(task)
            job_exit = JobExit(code, seconds, pid)
        except errors.TaskCancelledError:
            if self.stop_reason and self.kill_at < float("inf"):  # it had not been started
                self.queue.give_back(job)
                return
            state = State.INTERRUPTED if state == State.FAILED else state
            job_exit = JobExit(130, age, 0, self.stop_reason or "cancelled in Ray", state)
        except Preempted:  # again, after all retries
            job_exit = JobExit(Preempted.exit_code, age, 0)
        except errors.RayTaskError as error:
            cause = error.cause
            reason = reason_of(cause) if isinstance(cause, MLAError | OSError) else repr(cause)
            job_exit = JobExit(1, age, 0, f"could not be started: {reason}")
        except errors.RayError as error:
            reason = self.stop_reason or _reason(error, self.launcher.retries)
            job_exit = JobExit(1, age, 0, reason, state)
        if not self.queue.record_exit(job, job_exit) and self.launcher.fail_fast:
            self.exit_code = self.exit_code or RunError.exit_code
            if not self.stop_reason:
                self.stop("stopped because another job failed")


def run_task(job: Job, place: str, function: JobFunction | None) -> tuple[int, float, int]:
    """Run one job, in a worker of Ray that runs nothing else.

    Args:
        job: The job.
        place: The folder in which the sweep was started.
        function: Function that runs the job; None for training.

    Returns:
        The exit code, the seconds, and the process.

    Raises:
        RunError: If this node does not have the folder.
        OSError: If the log cannot be written.
        Preempted: If the job was ended by SIGTERM, so that Ray starts it again.
    """
    import ray

    started = time.monotonic()
    scheduler.enter_task(_this_task())
    scheduler.ENDED["ray"] = functools.partial(_is_on_dead_node, ray)
    enter_folder(place, job.overrides)
    log = open_file(job.run_dir / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    redirect_to(log)
    code = run_to_exit_code(job, function or run_foreign_job)
    sys.stdout.flush()
    sys.stderr.flush()
    if code == Preempted.exit_code:
        raise Preempted("Ended by SIGTERM.")
    return code, time.monotonic() - started, os.getpid()


def _this_task() -> dict[str, Any]:
    """Return what the lock of a run names of the task that runs it."""
    import ray

    worker: Any = importlib.import_module("ray._private.worker").global_worker
    context = ray.get_runtime_context()
    return {
        "scheduler": "ray",
        "cluster": context.get_session_name(),
        "job": context.get_task_id(),
        "restart": worker.core_worker.get_current_task_attempt_number(),
        "node": context.get_node_id(),
    }


def _is_on_dead_node(ray: Any, job: Mapping[str, Any]) -> bool:
    """Return whether a task ran on a node of this cluster that has died."""
    if job.get("cluster") != ray.get_runtime_context().get_session_name():
        return False
    alive = {node["NodeID"]: node["Alive"] for node in ray.nodes()}
    return alive.get(job.get("node")) is False


def _reason(error: Exception, retries: int) -> str:
    """Return why Ray ended a task."""
    name = type(error).__name__
    times = "once" if retries == 0 else f"{retries + 1} times"
    if name == "OutOfMemoryError":
        return f"Ray killed it {times}, since the memory of its node was nearly full"
    if name in ("WorkerCrashedError", "LocalRayletDiedError"):
        return f"its worker of Ray was killed {times} (out of memory?)"
    if name == "NodeDiedError":
        return f"its node of Ray died {times}"
    return f"Ray: {(str(error).strip().splitlines() or [name])[0]}"


def _words(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPUs and {gpus:g} GPUs"
