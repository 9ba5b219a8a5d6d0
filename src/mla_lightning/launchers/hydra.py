"""Launcher that runs jobs with a launcher plugin of Hydra, such as joblib or submitit.

A plugin starts tasks; each of them forks the process of its job, as the fork launcher does. What
became of a job is read from files, not from the plugin, which returns when all tasks have ended.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from mla_lightning.config.hydra_plugins import (
    launch_with_plugin,
    load_plugin_config,
    settings_of_plugin,
)
from mla_lightning.errors import ConfigError
from mla_lightning.launchers.base import JobExit, JobFunction, JobQueue
from mla_lightning.launchers.devices import visible_cores
from mla_lightning.launchers.foreign import check_one_machine, job_to_text
from mla_lightning.launchers.hydra_task import LOOK_S, run_task
from mla_lightning.run_folder import State, write_text
from mla_lightning.run_folder.forks import limited_threads
from mla_lightning.run_folder.lock import LOCK, RunLock, lock_file
from mla_lightning.run_folder.stop_signals import (
    STOP_SIGNALS,
    WARNINGS,
    collected_signals,
    exit_code_of_signal,
)

if TYPE_CHECKING:
    from mla_lightning.config import Job

#: Seconds after which an exception that a signal has raised counts as dropped.
DROPPED_S = 1.0
#: Folder beside the run folders in which a plugin and the tasks of a sweep write their files.
FOLDER = ".hydra-launcher"


class HydraLauncher:
    """Runs jobs with a launcher plugin of Hydra, which chooses processes and machines.

    Example:
        >>> HydraLauncher(plugin="joblib", options={"n_jobs": 2}).options
        {'n_jobs': 2}
    """

    has_free_terminal = False  # plugins print

    def __init__(
        self,
        *,
        plugin: str,
        options: Mapping[str, Any] | None = None,
        grace_s: float = 30.0,
        job_function: JobFunction | None = None,
    ) -> None:
        """Store the settings; the plugin is looked for by :meth:`check`.

        Args:
            plugin: The plugin, as in ``hydra/launcher=NAME``.
            options: Values of its settings; the others keep the plugin's defaults, except that a
                job gets ``trainer.threads`` cores.
            grace_s: Seconds from the request to stop until a job is killed, in which it writes a
                checkpoint.
            job_function: Function that runs one job; None for training.
        """
        self.plugin = plugin
        self.options = dict(options or {})
        self.grace_s = grace_s
        self.job_function = job_function
        self.concurrency = 0
        #: Whether the jobs run on this machine, which can be checked for them then.
        self.runs_here = plugin in ("joblib", "submitit_local")

    def check(self, jobs: Sequence[Job]) -> None:
        """Check that the plugin is installed and has the settings.

        Args:
            jobs: The jobs.

        Raises:
            ConfigError: If it is not, or has not.
        """
        check_one_machine(jobs, "hydra")
        values = self._values(jobs)
        load_plugin_config(self.plugin, values, Path())
        limit = values.get("n_jobs", values.get("array_parallelism"))
        if isinstance(limit, int) and limit < 0:  # joblib: -1 is all cores, -2 all but one
            limit = max(1, visible_cores() + 1 + limit)
        self.concurrency = min(limit or len(jobs), max(1, len(jobs)))

    def _values(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """Return the values of the plugin's settings, with those that follow from the jobs."""
        known = settings_of_plugin(self.plugin)
        trainers = [job.config.trainer for job in jobs]
        cores = [trainer.threads * trainer.devices for trainer in trainers]
        threads = max(cores, default=1)
        needs_gpu = any(trainer.accelerator in ("gpu", "cuda") for trainer in trainers)
        defaults = {"cpus_per_task": threads, "n_jobs": max(1, visible_cores() // threads)}
        if needs_gpu:
            defaults["gpus_per_node"] = max(trainer.devices for trainer in trainers)
        if needs_gpu and "n_jobs" in known and "n_jobs" not in self.options:
            raise ConfigError(
                f"launcher.plugin={self.plugin} gives no job a GPU of its own. Write "
                "launcher=fork, or launcher.options.n_jobs=N for N jobs on the first GPU"
            )
        return {**{k: v for k, v in defaults.items() if k in known}, **self.options}

    def launch(self, queue: JobQueue) -> int:
        """Run all jobs that can be taken.

        Args:
            queue: The jobs of the sweep.

        Returns:
            0; 130 if Ctrl-C, 143 if another signal stopped the sweep.
        """
        jobs = list(iter(queue.take, None))
        can_end = threading.Event()
        with _requests_to_stop(can_end) as signals:
            while jobs:
                batch = _Batch(self, queue, jobs, signals, can_end)
                with limited_threads(max(job.config.trainer.threads for job in jobs)):
                    jobs = batch.run(self._values(jobs))
            return exit_code_of_signal(signals[0]) if signals else 0


class _Batch:
    """The tasks of one call of the plugin."""

    def __init__(
        self,
        launcher: HydraLauncher,
        queue: JobQueue,
        jobs: Sequence[Job],
        signals: list[signal.Signals],
        can_end: threading.Event,
    ) -> None:
        self.launcher, self.can_end = launcher, can_end
        self.queue = queue
        self.pending = dict(enumerate(jobs))
        self.signals = signals
        self.is_stopping = False
        self.has_ended = threading.Event()  # the plugin, by its return or by the second signal
        self._raised_at = 0.0
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{id(self):x}"
        self.folder = Path(os.path.abspath(jobs[0].run_dir.parent)) / FOLDER / stamp  # noqa: PTH100

    def run(self, values: Mapping[str, Any]) -> list[Job]:
        """Run the tasks; return the jobs whose tasks were not started because of another's end."""
        launcher, num_jobs = self.launcher, len(self.pending)
        self.folder.mkdir(parents=True, mode=0o755)
        for number, job in self.pending.items():
            write_text(self.folder / f"{number}.yaml", job_to_text(job))
        function = functools.partial(
            run_task,
            folder=str(self.folder),
            place=os.getcwd(),  # noqa: PTH109
            grace_s=launcher.grace_s,
            ends_with_sweep=launcher.runs_here,  # a scheduler's jobs go on
            function=launcher.job_function,
        )
        config = load_plugin_config(launcher.plugin, values, self.folder)
        reason, is_killed = "", False
        with RunLock(self.folder), self._watched():
            try:
                self.can_end.set()
                if len(self.signals) > 1:  # both came before
                    raise KeyboardInterrupt
                launch_with_plugin(
                    config, function, [[f"+job={number}"] for number in self.pending]
                )
                self._wait_for_others()
            except KeyboardInterrupt:  # the second signal
                self.has_ended.set()
                is_killed = True
                self._request(signal.SIGKILL)
            except Exception as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                reason = f"launcher.plugin={launcher.plugin} ended: {lines[0]}"
                with contextlib.suppress(KeyboardInterrupt):  # the second signal
                    self._wait_for_others()
            finally:
                self.can_end.clear()
                self.has_ended.set()
        if not is_killed:
            self._request(signal.SIGTERM)  # tasks that the plugin starts later find it
        return self._conclude(reason, num_jobs)

    def _conclude(self, reason: str, num_jobs: int) -> list[Job]:
        """Record the ends of jobs without a result; return those to launch again."""
        unstarted = []
        for number, job in tuple(self.pending.items()):
            if (self.folder / f"{number}.begun").exists():
                self.queue.record_exit(job, JobExit(-signal.SIGKILL, 0.0, 0))
            elif self.signals:
                self.queue.give_back(job)
            else:
                unstarted.append(job)
        if len(unstarted) == num_jobs or not reason:  # another call would end likewise
            reason = reason or f"launcher.plugin={self.launcher.plugin} did not start it"
            for job in unstarted:
                self.queue.record_exit(job, JobExit(1, 0.0, os.getpid(), reason))
            unstarted = []
        self._clean()
        return unstarted

    def _clean(self) -> None:
        """Remove the files of the tasks; those of the plugin stay if a task has no result."""
        if any(self._runs(number) for number in self.pending):  # left by the second signal
            return
        if not self.pending:
            shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            for path in self.folder.glob("*.*"):
                if path.is_file():
                    path.unlink()
            for name in ("stop", LOCK):
                (self.folder / name).unlink()
            self.folder.rmdir()
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Record the ends of jobs, and pass signals on, while the plugin has this thread."""
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(LOOK_S):
                self._look()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            is_over.set()
            watcher.join()
            self._look()

    def _look(self) -> None:
        if self.signals and not self.is_stopping:
            self.is_stopping = True
            self._request(self.signals[0])
        self._end_again()
        for path in self.folder.glob("*.json"):
            if path.stem.isdecimal() and int(path.stem) in self.pending:
                content = json.loads(path.read_text(encoding="utf-8"))
                job = self.pending.pop(int(path.stem))
                job_exit = JobExit(**content | {"state": State(content["state"])})
                self.queue.record_exit(job, job_exit)
        self.queue.refresh()

    def _end_again(self) -> None:
        """Send the second signal again if Python has dropped the exception that it raised.

        It drops those that are raised within a finaliser or beside a fork.
        """
        if len(self.signals) < 2 or self.can_end.is_set() or self.has_ended.is_set():
            self._raised_at = 0.0
        elif not self._raised_at:
            self._raised_at = time.monotonic()
        elif time.monotonic() - self._raised_at > DROPPED_S:
            self._raised_at = 0.0
            self.can_end.set()
            os.kill(os.getpid(), self.signals[-1])

    def _request(self, number: int) -> None:
        with contextlib.suppress(OSError):
            write_text(self.folder / "stop", str(int(number)))

    def _wait_for_others(self) -> None:
        """Wait for tasks that run although the plugin has returned, after one was killed."""
        while any(self._runs(number) for number in tuple(self.pending)):
            time.sleep(LOOK_S)

    def _runs(self, number: int) -> bool:
        """Return whether a task or the process of its job lives: both hold the file's lock."""
        try:
            with (self.folder / f"{number}.begun").open() as file:
                return lock_file(file.fileno(), shared=True) is False
        except OSError:
            return False


@contextlib.contextmanager
def _requests_to_stop(can_end: threading.Event) -> Iterator[list[signal.Signals]]:
    """Collect signals to stop; the second ends the plugin by KeyboardInterrupt, if it runs.

    Args:
        can_end: Set while the plugin runs; cleared when the exception is raised.
    """
    with collected_signals() as signals:
        collect = signal.getsignal(signal.SIGTERM)
        assert callable(collect)

        def receive(number: int, frame: FrameType | None) -> None:
            is_second = bool(signals) and number not in WARNINGS
            collect(number, frame)
            if is_second and can_end.is_set():
                can_end.clear()
                raise KeyboardInterrupt

        for number in STOP_SIGNALS:
            signal.signal(number, receive)
        yield signals
