"""Jobs on the command line: their states, what would be submitted, and one job of a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mla_lightning.errors import ConfigError, RunError

if TYPE_CHECKING:
    from mla_lightning.config import Job


def print_states(jobs: Sequence[Job]) -> None:
    """Print state, title and folder of each job."""
    from mla_lightning.run_folder.completion import planned_state

    states = [planned_state(job.run_dir, job.identity, job.code) for job in jobs]
    width = max(map(len, states), default=0) + 2
    for job, state in zip(jobs, states, strict=True):
        print(f"{state:<{width}} {job.title:<50} {job.run_dir}")
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    print(f"{len(jobs)} jobs: {', '.join(counts)}")


def check_jobs(jobs: Sequence[Job], launcher: Any) -> None:
    """Check jobs before a launcher starts them, with this machine if they run on it.

    Args:
        jobs: The jobs.
        launcher: The launcher.

    Raises:
        ConfigError: If a job cannot run; nothing has been written then.
        DataError: If data are missing.
    """
    if getattr(launcher, "runs_here", True):
        from mla_lightning.run.preflight import check_before_start

        check_before_start(jobs)
    else:  # a job checks the rest on the machine where it runs; this needs no torch
        from mla_lightning.run.submission import check_before_submission

        check_before_submission(jobs)


def check_devices(jobs: Sequence[Job], launcher: Any) -> None:
    """Check that this machine has the devices of the unfinished jobs, if they run on it.

    It needs torch only for jobs that ask for another device than the CPU.

    Args:
        jobs: The jobs, also finished ones.
        launcher: The launcher.

    Raises:
        ConfigError: With all problems, one per line.
    """
    if not getattr(launcher, "runs_here", True):
        return
    waiting = [job for job in jobs if job.config.overwrite or not _is_done(job)]
    if any(job.config.trainer.accelerator != "cpu" for job in waiting):
        from mla_lightning.run.preflight import accelerator_problem

        problems = [accelerator_problem(job.config) for job in waiting]
        if found := list(dict.fromkeys(filter(None, problems))):
            raise ConfigError("\n".join(found))


def print_submission(jobs: Sequence[Job], launcher: Any) -> None:
    """Print what a launcher would submit to a scheduler.

    Args:
        jobs: The jobs, also finished ones.
        launcher: The launcher, which has a method ``describe``.

    Raises:
        ConfigError: If they cannot be submitted.
    """
    launcher.check(jobs)
    unfinished = [job for job in jobs if job.config.overwrite or not _is_done(job)]
    print(f"\n{launcher.describe(unfinished)}", end="")


def run_listed_job(words: Sequence[str]) -> int:
    """Run one job of a list, as a task of a scheduler does.

    Args:
        words: File and number, and options.

    Raises:
        ConfigError: If they are something else.
    """
    from mla_lightning.launchers import task

    names = [word for word in words if not word.startswith("--max-requeues=")]
    if len(names) != 2 or not names[1].isdecimal():
        raise ConfigError(
            "mla task FILE NUMBER runs one job of a list that launcher=slurm wrote, such as "
            "mla task runs/train/.slurm/NAME/jobs.txt 0"
        )
    task.main(words)


def _is_done(job: Job) -> bool:
    from mla_lightning.run_folder.completion import completion_of

    try:
        completion = completion_of(job.run_dir, job.identity, job.code)
    except RunError:  # damaged files, which the job itself will report
        return False
    return completion.is_done(job.config.stale)
