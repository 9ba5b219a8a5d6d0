"""Jobs in processes that another engine starts, perhaps on another machine.

The jobs were composed and checked before. A process runs one in the folder where the sweep was
started, so that relative paths mean the same, with the code that was recorded for it, or not at
all.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mla_lightning.errors import ConfigError, MLAError, RunError, reason_of

if TYPE_CHECKING:
    from mla_lightning.config import Job


def job_to_text(job: Job) -> str:
    """Format a job as YAML, which names data and no objects: nothing is executed by reading it.

    Args:
        job: The job.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> (job,) = compose_jobs(["data=synthetic"])
        >>> job_from_text(job_to_text(job)) == job
        True
    """
    content = {field.name: getattr(job, field.name) for field in dataclasses.fields(job)}
    for name in ("overrides", "notes", "floor"):
        content[name] = list(content[name])
    content |= {"config": job.config.tree, "run_dir": str(job.run_dir)}
    content["code"] = dict(job.code.modules)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times as fast, if it was built
    return yaml.dump(content, Dumper=dumper, sort_keys=False, allow_unicode=True)


def job_from_text(text: str) -> Job:
    """Read a job that :func:`job_to_text` has formatted."""
    from mla_lightning.config import Job
    from mla_lightning.identity.code import Code
    from mla_lightning.run_folder.config import RunConfig

    content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    for name in ("overrides", "notes", "floor"):
        content[name] = tuple(content[name])
    content["config"] = RunConfig.from_tree(content["config"])
    content["code"] = Code(content["code"])
    return Job(**content | {"run_dir": Path(content["run_dir"])})


def enter_folder(folder: str, overrides: Iterable[str]) -> None:
    """Enter the folder of the sweep, and allow the packages that its command allowed.

    Args:
        folder: The folder in which the sweep was started.
        overrides: The words of a job after ``mla train``.

    Raises:
        RunError: If this machine does not have the folder.

    Example:
        >>> enter_folder(str(tmp / "nowhere"), [])
        Traceback (most recent call last):
        mla_lightning.errors.RunError: ... has no folder ...nowhere, in which the sweep was ...
    """
    try:
        os.chdir(folder)
    except OSError as error:
        raise RunError(
            f"{socket.gethostname()} has no folder {folder}, in which the sweep was started "
            f"({reason_of(error, Path(folder))}). All machines need the same files: start the "
            "sweep in a folder on a shared disk."
        ) from error
    words = list(overrides)
    allowed = [word for flag, word in itertools.pairwise(words) if flag == _ALLOW]
    if allowed:
        allow_target = importlib.import_module("mla_lightning.config.targets").allow_target
        for package in allowed:
            allow_target(package)


_ALLOW = "--allow-target"


def check_one_machine(jobs: Iterable[Job], launcher: str) -> None:
    """Check that no job needs several machines, which a task of another engine does not get.

    Args:
        jobs: The jobs.
        launcher: Name of the launcher.

    Raises:
        ConfigError: If one does.

    Example:
        >>> check_one_machine([], "ray")
    """
    for job in jobs:
        if (number := job.config.trainer.num_nodes) > 1:
            raise ConfigError(
                f"trainer.num_nodes={number}: launcher={launcher} runs each job on one machine. "
                "Write launcher=slurm, or trainer.num_nodes=1"
            )


def run_foreign_job(job: Job) -> int:
    """Run a job whose code is still that with which it was planned.

    A forked job has the modules of its parent; this process has imported them later, when the
    files may have been edited.

    Args:
        job: The job.

    Returns:
        The exit code.
    """
    record = importlib.import_module("mla_lightning.run.record")
    train = importlib.import_module("mla_lightning.run.train")
    try:
        record.check_code_is_current(job, job.code.modules)
    except MLAError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    code: int = train.run_job(job)
    return code
