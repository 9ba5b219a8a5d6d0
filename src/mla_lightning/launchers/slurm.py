"""Launcher that submits jobs to SLURM as arrays, and watches them.

What a job became is read from its run folder; SLURM is asked only for what a folder cannot say:
that a job waits, where it runs, and why it has no processes any more. So the launcher may end at
any time, and the same command watches the jobs again.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mla_lightning.errors import ConfigError, RunError
from mla_lightning.launchers.base import JobFunction, JobQueue
from mla_lightning.launchers.slurm_script import (
    SCRIPT,
    ArrayScript,
    Resources,
    check_options,
    check_words,
    resources_of,
)
from mla_lightning.launchers.slurm_submission import (
    FOLDER,
    complete_submissions,
    new_name,
    queued_task,
    release,
    submit,
    submitting,
    write_queued,
)
from mla_lightning.launchers.slurm_watch import Watch, names_of_arrays
from mla_lightning.launchers.summary import count_jobs
from mla_lightning.run_folder.lock import RunLock
from mla_lightning.run_folder.scheduler import ask_slurm
from mla_lightning.run_folder.schema import Above, AtLeast, AtMost, Count, Seconds
from mla_lightning.run_folder.squeue import ask_queue
from mla_lightning.run_folder.stop_signals import collected_signals, exit_code_of_signal

if TYPE_CHECKING:
    from mla_lightning.config import Job

COMMANDS = ("sbatch", "squeue", "scontrol", "scancel")
#: SLURM may send a warning this many seconds earlier than asked for.
EARLY_S = 60
#: Folders that are usually on the disk of one machine.
LOCAL_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run")
#: Tasks of an array where SLURM does not say how many it may have.
DEFAULT_ARRAY_SIZE = 1001


class SlurmLauncher:
    """Submits each job as a task of an array of SLURM, and waits for the end of all.

    Example:
        >>> SlurmLauncher(time_min=2, grace_s=90)
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: launcher.grace_s=90 leaves no time to train: ...
    """

    has_free_terminal = True
    runs_here = False

    def __init__(
        self,
        *,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        time_min: Count = 60,
        jobs: Count | None = None,
        memory_gb: Annotated[float, Above(0)] | None = None,
        gpus: Annotated[int, AtLeast(0), AtMost(64)] | None = None,
        grace_s: Annotated[int, AtLeast(10), AtMost(65535)] = 120,
        requeue: bool = True,
        max_requeues: Annotated[int, AtLeast(0)] = 20,
        setup: Sequence[str] = (),
        sbatch: Mapping[str, Any] | None = None,
        wait: bool = True,
        poll_s: Seconds = 5.0,
        job_function: JobFunction | None = None,
    ) -> None:
        """Set the options; nothing is submitted yet.

        Args:
            partition: Partition; None for the cluster's default, likewise the next two.
            account: Account.
            qos: Quality of service.
            time_min: Minutes of one start of a job, which goes on in the next one.
            jobs: Number of jobs of an array at a time; None for no limit.
            memory_gb: Memory of a node for a job, in GiB; None for the cluster's default.
            gpus: GPUs of a node for a job; None for one per process where jobs compute on GPUs.
            grace_s: Seconds before the limit at which a job is asked to write a checkpoint.
            requeue: Whether a job goes on by itself after its limit, preemption or a failed node.
            max_requeues: Number of times that it does.
            setup: Lines of the script before the job, such as ``module load cuda``.
            sbatch: Further options of sbatch: name -> value, True for one without a value.
            wait: Whether to watch the jobs until they end.
            poll_s: Seconds between two questions to SLURM.
            job_function: Must be None: a task of SLURM trains.

        Raises:
            ConfigError: If options contradict each other, or the script has one already.
        """
        if job_function is not None:
            raise ConfigError("launcher=slurm runs training alone, no other function")
        if grace_s + EARLY_S >= 60 * time_min:
            raise ConfigError(
                f"launcher.grace_s={grace_s} leaves no time to train: SLURM sends the warning up "
                f"to {EARLY_S} s earlier, and launcher.time_min={time_min} is {60 * time_min} s. "
                "Write a smaller launcher.grace_s or a larger launcher.time_min."
            )
        uses = {"partition": partition, "account": account, "qos": qos}
        check_options(sbatch or {}, {**uses, "memory_gb": memory_gb, "gpus": gpus or None})
        for key, value in uses.items():
            if value is not None and not (value and value.isprintable()):
                raise ConfigError(f"launcher.{key}={value!r} is no name")
        for line in setup:
            if len(str(line).splitlines()) != 1:
                raise ConfigError(f"launcher.setup: {line!r} is not one line of a script")
        self.options: dict[str, Any] = {key: v for key, v in uses.items() if v is not None}
        if memory_gb is not None:
            self.options["mem"] = f"{round(memory_gb * 1024)}M"
        self.options |= sbatch or {}
        self.time_min, self.grace_s, self.jobs, self.gpus = time_min, grace_s, jobs, gpus
        self.max_requeues = max_requeues if requeue else None
        self.setup, self.wait, self.poll_s = [str(line) for line in setup], wait, poll_s
        self.concurrency = 1
        self._array_size = DEFAULT_ARRAY_SIZE

    # ------------------------------------------------------------------ before anything starts

    def check(self, jobs: Sequence[Job]) -> None:
        """Check that SLURM can be reached and that the jobs can be submitted.

        Args:
            jobs: The jobs.

        Raises:
            ConfigError: If commands of SLURM are missing.
            RunError: If SLURM does not answer.
        """
        missing = [name for name in COMMANDS if shutil.which(name) is None]
        if missing:
            raise ConfigError(
                f"launcher=slurm needs SLURM's commands, and {', '.join(missing)} is not on the "
                "PATH. Run this on a login node of the cluster (perhaps after `module load slurm`),"
                " or leave out launcher=slurm to train on this machine."
            )
        config = ask_slurm("scontrol", "show", "config")
        if config is None or config.returncode:
            reason = config.stderr.strip() if config else "it does not answer"
            raise RunError(f"SLURM cannot be asked by `scontrol show config`: {reason}")
        for line in config.stdout.splitlines():
            key, _, value = (part.strip() for part in line.partition("="))
            if key == "MaxArraySize" and value.isdecimal():
                self._array_size = max(2, int(value))
        for job in jobs:
            check_words(job)
            if self.setup and not any(w.startswith("launcher.setup=") for w in job.overrides):
                raise ConfigError(
                    "launcher.setup are lines of a shell, which no config may bring with it. Write "
                    "them on the command line: 'launcher.setup=[module load cuda]'. Or load the "
                    "modules before the command: SLURM passes the environment on."
                )
        self.concurrency = self.jobs or max(1, len(jobs))
        self._note_local_folder(jobs)

    @staticmethod
    def _note_local_folder(jobs: Sequence[Job]) -> None:
        for job in jobs[:1]:
            place = str(job.run_dir.absolute())
            if any(place.startswith(f"{folder}/") for folder in LOCAL_FOLDERS):
                print(
                    f"note: {job.run_dir.parent} is on this machine alone if {place.split('/')[1]} "
                    "is not shared; the nodes must see the same folder. Choose another place: "
                    "paths.output_dir=FOLDER",
                    file=sys.stderr,
                )

    def describe(self, jobs: Sequence[Job]) -> str:
        """Return what would be submitted, with the scripts.

        Args:
            jobs: The jobs that are not finished.
        """
        texts = []
        in_slurm = self._active_tasks(jobs)
        if in_slurm:
            names = ", ".join(names_of_arrays(in_slurm))
            texts.append(f"# {count_jobs(len(in_slurm))} in SLURM already, as {names}\n")
        known = {job.run_dir for job in in_slurm.values()}
        for script, of_script in self._scripts(job for job in jobs if job.run_dir not in known):
            place = os.path.relpath(script.folder / SCRIPT)
            texts.append(f"# {count_jobs(len(of_script))} would be submitted by {place}:\n")
            texts.append(script.text())
        return "\n".join(texts)

    def _scripts(self, jobs: Iterable[Job]) -> list[tuple[ArrayScript, list[Job]]]:
        """Group jobs by folder and resources into arrays that SLURM accepts."""
        groups: dict[tuple[Path, Resources], list[Job]] = defaultdict(list)
        for job in jobs:
            groups[job.run_dir.parent, resources_of(job.config, self.gpus)].append(job)
        scripts = []
        largest = self._array_size - 1
        for (folder, resources), of_group in groups.items():
            for start in range(0, len(of_group), largest):
                part = of_group[start : start + largest]
                name = new_name(folder)
                script = ArrayScript(
                    name=name,
                    folder=folder / FOLDER / name,
                    num_jobs=len(part),
                    resources=resources,
                    time_min=self.time_min,
                    grace_s=self.grace_s,
                    jobs=self.jobs,
                    max_requeues=self.max_requeues,
                    options=self.options,
                    setup=self.setup,
                )
                scripts.append((script, part))
        return scripts

    # ------------------------------------------------------------------ the sweep

    def launch(self, queue: JobQueue) -> int:
        """Adopt the jobs that SLURM has, submit the others, and watch all.

        Args:
            queue: The jobs of the sweep.

        Returns:
            0; 130 if Ctrl-C, 143 if another signal ended the watching, while the jobs go on.

        Raises:
            RunError: If SLURM refuses the first array; nothing has changed then.
        """
        if not queue.waiting():
            return 0
        with collected_signals() as signals:
            tasks: dict[str, Job] = {}
            with ExitStack() as stack:
                for folder in dict.fromkeys(job.run_dir.parent for job in queue.waiting()):
                    stack.enter_context(submitting(folder))
                    complete_submissions(folder)
                self._adopt(queue, tasks)
                code = self._submit(queue, tasks, signals)
            if not tasks:
                return exit_code_of_signal(signals[0]) if signals else code
            requeues = self.max_requeues is not None
            watch = Watch(queue, tasks, signals, self.poll_s, requeues=requeues)
            if not self.wait and not signals:
                watch.leave()
                return code
            return watch.run() or code

    def _adopt(self, queue: JobQueue, tasks: dict[str, Job]) -> None:
        """Take the jobs that SLURM has from an earlier sweep."""
        for name, job in self._active_tasks(queue.waiting()).items():
            queue.adopt(job)
            queue.set_queued(job, True)
            tasks[name] = job
        if tasks:
            names = names_of_arrays(tasks)
            queue.print_line(f"{count_jobs(len(tasks))} in SLURM already, as {', '.join(names)}.")

    @staticmethod
    def _active_tasks(jobs: Iterable[Job]) -> dict[str, Job]:
        """Return the tasks that SLURM has of jobs, by the states in their run folders."""
        candidates = {name: job for job in jobs if (name := queued_task(job))}
        states = ask_queue(candidates)
        if states is None:
            raise RunError("squeue does not answer, so that jobs may be in SLURM. Try again later.")
        return {n: job for n, job in candidates.items() if n in states and states[n].is_active}

    def _submit(self, queue: JobQueue, tasks: dict[str, Job], signals: list[signal.Signals]) -> int:
        """Submit the jobs that wait and whose folders are free; return 0, or 1 if not all were."""
        free = [job for job in queue.waiting() if RunLock(job.run_dir).holder() is None]
        is_first = not tasks
        for script, jobs in self._scripts(free):
            if signals:
                break
            try:
                array = submit(script, jobs)
            except RunError as error:
                if is_first:
                    raise
                queue.print_line(f"error: {error}")
                return RunError.exit_code
            is_first = False
            for number, job in enumerate(jobs):
                name = f"{array}_{number}"
                if queue.claim(job):
                    write_queued(array, number, job)
                    queue.set_queued(job, True)
                    tasks[name] = job
                else:
                    ask_slurm("scancel", name)
            release(array, script.folder)
            queue.print_line(
                f"Submitted {count_jobs(len(jobs))} to SLURM as {array}: "
                f"{os.path.relpath(script.folder)}"
            )
        return 0
