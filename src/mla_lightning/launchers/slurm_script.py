"""The script of an array of SLURM, and the list of its jobs; both are texts to read and keep."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.errors import ConfigError, RunError
from mla_lightning.run_folder.forks import THREAD_VARIABLES

if TYPE_CHECKING:
    from mla_lightning.config import Job
    from mla_lightning.run_folder.config import RunConfig

JOBS, SCRIPT, STARTS = "jobs.txt", "array.sh", "starts"
#: Module that runs one job of a list.
TASK = "mla_lightning.launchers.task"
#: Options of sbatch that the script has in every case -> the setting that changes them.
FIXED = {
    "job-name": "name",
    "array": "launcher.jobs",
    "chdir": "",
    "output": "",
    "error": "",
    "open-mode": "",
    "wait": "launcher.wait",
    "wrap": "",
    "test-only": "",
    "hold": "",
    "parsable": "",
    "time": "launcher.time_min",
    "nodes": "trainer.num_nodes",
    "ntasks": "trainer.devices",
    "ntasks-per-node": "trainer.devices",
    "cpus-per-task": "trainer.threads",
    "requeue": "launcher.requeue",
    "no-requeue": "launcher.requeue",
    "signal": "launcher.grace_s",
}
#: Those that it has if their setting is not null.
OPTIONAL = {
    "partition": "launcher.partition",
    "account": "launcher.account",
    "qos": "launcher.qos",
    "mem": "launcher.memory_gb",
    "gres": "launcher.gpus",
}


@dataclass(frozen=True)
class Resources:
    """What one job needs; an array has jobs with equal needs.

    Attributes:
        nodes: Number of nodes.
        ranks: Number of processes on each node.
        threads: Number of cores of each process.
        gpus: Number of GPUs on each node.

    Example:
        >>> Resources(nodes=2, ranks=4, threads=1, gpus=4).num_ranks
        8
    """

    nodes: int
    ranks: int
    threads: int
    gpus: int

    @property
    def num_ranks(self) -> int:
        """Number of processes in all."""
        return self.nodes * self.ranks


def resources_of(config: RunConfig, gpus: int | None) -> Resources:
    """Return what a job needs.

    Args:
        config: The config of the job.
        gpus: GPUs per node; None for one per process where the job computes on GPUs.
    """
    trainer = config.trainer
    ranks = trainer.devices
    if gpus is None:
        gpus = ranks if trainer.accelerator in ("gpu", "cuda") else 0
    return Resources(trainer.num_nodes, ranks, trainer.threads, gpus)


@dataclass(frozen=True)
class ArrayScript:
    """The script of one array.

    Attributes:
        name: Name of the array, by which SLURM finds it.
        folder: Folder of the script, of the list of jobs and of the output.
        num_jobs: Number of jobs.
        resources: What each job needs.
        time_min: Minutes until a job is stopped, and goes on in its next start.
        grace_s: Seconds before that at which a job is warned.
        jobs: Number of jobs at a time; None for no limit.
        max_requeues: Number of times that a job goes on by itself; None if it does not.
        options: Further options of sbatch; True for one without a value.
        setup: Lines that run before the job.
        python: The interpreter.
        directory: Working directory.
    """

    name: str
    folder: Path
    num_jobs: int
    resources: Resources
    time_min: int
    grace_s: int
    jobs: int | None = None
    max_requeues: int | None = None
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    setup: Sequence[str] = ()
    python: str = sys.executable
    directory: Path = field(default_factory=Path.cwd)

    def all_options(self) -> dict[str, str | int | float | bool]:
        """Return all options of sbatch, in the order of the script."""
        need = self.resources
        limit = "" if self.jobs is None else f"%{self.jobs}"
        output = str(self.folder.absolute()).replace("%", "%%")
        return {
            "job-name": self.name,
            "array": f"0-{self.num_jobs - 1}{limit}",
            "chdir": str(self.directory),
            "output": f"{output}/%A_%a.log",
            "open-mode": "append",
            "time": self.time_min,
            "nodes": need.nodes,
            "ntasks-per-node": need.ranks,
            "cpus-per-task": need.threads,
            "no-requeue" if self.max_requeues is None else "requeue": True,
            "signal": f"USR2@{self.grace_s}",
            **({"gres": f"gpu:{need.gpus}"} if need.gpus else {}),
            **self.options,
        }

    def text(self) -> str:
        """Return the script."""
        need = self.resources
        path = self.folder.absolute() / JOBS
        lines = [
            "#!/bin/bash",
            f"# One task of this array for each line of {JOBS}, written by `mla train`.",
            f"# By hand: sbatch {shlex.quote(str(self.folder.absolute() / SCRIPT))}",
        ]
        for key, value in self.all_options().items():
            text = "" if value is True else f"={shlex.quote(str(value))}"
            lines.append(f"#SBATCH --{key}{text}")
        lines += ["", "set -e"]
        lines += [f"export {name}={need.threads}" for name in THREAD_VARIABLES]
        if need.num_ranks > 1:
            lines += [
                "# where the processes of a job meet; a later start must not find the earlier port",
                'node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
                "export MASTER_ADDR=$(scontrol show node \"$node\" | grep -oP 'NodeAddr=\\K\\S+')",
                "export MASTER_PORT=$((10000 + (SLURM_JOB_ID * 7 + ${SLURM_RESTART_COUNT:-0}) "
                "% 20000))",
            ]
        lines += self.setup
        command = [self.python, "-m", TASK, str(path)]
        words = f'{shlex.join(command)} "$SLURM_ARRAY_TASK_ID"'
        if self.max_requeues is not None:
            words += f" --max-requeues={self.max_requeues}"
        lines += [f"srun --kill-on-bad-exit=1 --cpus-per-task={need.threads} {words}", ""]
        return "\n".join(lines)


def check_options(options: Mapping[str, Any], uses: Mapping[str, Any]) -> None:
    """Check further options of sbatch.

    Args:
        options: Name -> value, as the user gave them.
        uses: Optional settings of the launcher -> value; None if it is not in use.

    Raises:
        ConfigError: If the script has an option already, or a name or a value cannot be written.

    Example:
        >>> check_options({"constraint": "a100", "exclusive": True}, {"qos": None})
        >>> check_options({"time": "1:00:00"}, {})
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: launcher.sbatch.time: ... use launcher.time_min
    """
    for key, value in options.items():
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", key):
            name = key.strip("-").replace("_", "-").lower()
            raise ConfigError(
                f"launcher.sbatch.{key} is no long option of sbatch. Did you mean {name!r}?"
            )
        is_used = key in OPTIONAL and uses.get(OPTIONAL[key].rpartition(".")[2]) is not None
        if key in FIXED or is_used:
            setting = FIXED.get(key, OPTIONAL.get(key, ""))
            advice = f"use {setting}" if setting else "leave it out"
            raise ConfigError(f"launcher.sbatch.{key}: the script has --{key} already; {advice}")
        if value is False or not isinstance(value, str | int | float):
            raise ConfigError(
                f"launcher.sbatch.{key} must be a text, a number, or true for an option without a "
                f"value, got {value!r}"
            )
        if not str(value).isprintable():
            raise ConfigError(f"launcher.sbatch.{key} has a line break or a control character")


@dataclass(frozen=True)
class JobLine:
    """One line of the list of jobs.

    Attributes:
        identity: Identity of the job.
        code: Hash of its code.
        run_dir: Its run folder.
        words: The words after ``mla train`` that run it.
        floor: Lowest scores of a trial of a search; see :class:`mla_lightning.config.Job`.

    Example:
        >>> line = JobLine("1a", "2b", Path("runs/a b"), ("method=mla", "note='x y'"), (0.5,))
        >>> print(line.text())
        1a 2b 'runs/a b' 0.5 method=mla 'note='"'"'x y'"'"''
        >>> JobLine.parse(line.text()) == line
        True
    """

    identity: str
    code: str
    run_dir: Path
    words: tuple[str, ...]
    floor: tuple[float, ...] = ()

    @classmethod
    def of(cls, job: Job) -> JobLine:
        """Return the line of a job."""
        floor = tuple(getattr(job, "floor", ()))
        return cls(job.identity, job.code.hash, job.run_dir, tuple(job.overrides), floor)

    def text(self) -> str:
        """Return the line, quoted as words of a shell."""
        floor = ",".join(map(repr, self.floor)) or "-"
        return shlex.join([self.identity, self.code, str(self.run_dir), floor, *self.words])

    @classmethod
    def parse(cls, line: str) -> JobLine:
        """Read a line.

        Raises:
            ValueError: If it is none.
        """
        identity, code, run_dir, floor, *words = shlex.split(line)
        scores = () if floor == "-" else tuple(map(float, floor.split(",")))
        return cls(identity, code, Path(run_dir), tuple(words), scores)


def check_words(job: Job) -> None:
    """Check that the words of a job can be one line of the list.

    Raises:
        ConfigError: If a word has a line break.
    """
    for word in (*job.overrides, str(job.run_dir.absolute())):
        if len(word.splitlines()) > 1 or word.endswith("\n"):
            raise ConfigError(
                f"{word!r} has a line break, which the list of jobs for SLURM cannot hold. Leave "
                "the line break out."
            )


def list_text(jobs: Sequence[Job]) -> str:
    """Return the list of the jobs of an array."""
    lines = "".join(f"{JobLine.of(job).text()}\n" for job in jobs)
    return f"# identity, code, run folder, floor of a trial, words after `mla train`\n{lines}"


def read_list(path: Path) -> list[JobLine]:
    """Read the list of the jobs of an array.

    Args:
        path: The file.

    Raises:
        RunError: If it cannot be read, or a line is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return [JobLine.parse(line) for line in lines if line and not line.startswith("#")]
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read as a list of jobs: {error}") from error
