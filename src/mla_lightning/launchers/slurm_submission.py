"""Submission of arrays to SLURM, such that no job is submitted twice or forgotten.

A submission is a folder ``SWEEP/.slurm/TIME`` with script, list of jobs and output. It is written
first, under a name that is also the array's name in SLURM. The array is submitted on hold; then the
state ``queued`` is written to its run folders, the array is released, and its number is written to
the submission. After a kill at any point the next sweep finds a submission without number and asks
SLURM for its name: if the array is still on hold, nothing has run, and it is cancelled; if not, the
run folders name it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mla_lightning import run_folder as files
from mla_lightning.errors import RunError
from mla_lightning.launchers.slurm_script import JOBS, SCRIPT, ArrayScript, list_text
from mla_lightning.run_folder.lock import RunLock
from mla_lightning.run_folder.scheduler import ask_slurm, cluster_here
from mla_lightning.run_folder.squeue import HELD, ask_queue_by_name

if TYPE_CHECKING:
    from mla_lightning.config import Job

#: Folder of the submissions of a sweep, beside its run folders.
FOLDER = ".slurm"
#: File of a submission with the number of its array, written last.
NUMBER = "number"
#: Seconds to wait for another sweep that is submitting.
PATIENCE_S = 120.0
TIMEOUT_S = 120.0


def new_name(folder: Path) -> str:
    """Return a name for a submission that no other has.

    Args:
        folder: The folder of the sweep.

    Example:
        >>> new_name(Path("runs/table1/openmoji"))
        'openmoji-2...'
    """
    sweep = "".join(c if c.isascii() and c.isalnum() else "-" for c in folder.absolute().name)
    return f"{sweep[:40]}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


@contextmanager
def submitting(folder: Path) -> Iterator[None]:
    """Let one sweep at a time submit jobs of a folder.

    Args:
        folder: The folder of the sweep.

    Raises:
        RunError: If another process is submitting for too long.
    """
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    lock, until = RunLock(place), time.monotonic() + PATIENCE_S
    while True:
        try:
            lock.__enter__()
            break
        except RunError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def submit(script: ArrayScript, jobs: Sequence[Job]) -> str:
    """Submit an array on hold; nothing of its run folders is changed.

    Args:
        script: The script, whose folder does not exist.
        jobs: Its jobs, in the order of the tasks.

    Returns:
        The number of the array.

    Raises:
        RunError: If sbatch refuses it, with its words. The folder is removed then.
    """
    script.folder.mkdir(parents=True)
    files.write_text(script.folder / JOBS, list_text(jobs))
    files.write_text(script.folder / SCRIPT, script.text())
    words = ["sbatch", "--hold", "--parsable", str(script.folder / SCRIPT)]
    try:
        done = subprocess.run(
            words,
            env=submitter_variables(script.all_options()),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        number = done.stdout.strip().splitlines()[-1:] or [""]
        array = number[0].partition(";")[0]
        reason = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        is_accepted = done.returncode == 0 and array.isdecimal()
    except (OSError, subprocess.SubprocessError) as error:
        is_accepted, reason, array = False, str(error), ""
    if is_accepted:
        return array
    if tasks := ask_queue_by_name(script.name):  # accepted, but the answer was lost
        return next(iter(tasks)).partition("_")[0]
    shutil.rmtree(script.folder)
    raise RunError(
        f"SLURM refused {len(jobs)} jobs, and their run folders are as they were:\n"
        f"{reason}\nThe script is printed by the same command with --dry-run."
    )


def submitter_variables(options: Iterable[str]) -> dict[str, str]:
    """Return the environment for sbatch: without what would override the script.

    That are variables such as ``SBATCH_TIMELIMIT``, and those of a job that this process is in.

    Args:
        options: The options that the script has, which the user's defaults must not replace.

    Example:
        >>> os.environ |= {"SBATCH_ACCOUNT": "mine", "SBATCH_QOS": "low", "SLURM_NTASKS": "4"}
        >>> variables = submitter_variables(["time", "qos"])
        >>> [variables.get(name) for name in ("SBATCH_ACCOUNT", "SBATCH_QOS", "SLURM_NTASKS")]
        ['mine', None, None]
        >>> for name in ("SBATCH_ACCOUNT", "SBATCH_QOS", "SLURM_NTASKS"):
        ...     del os.environ[name]
    """
    words = {"array": "ARRAY_INX", "time": "TIMELIMIT", "mem": "MEM_PER_NODE"}
    overriding = {words.get(key, key.upper().replace("-", "_")) for key in options}
    overriding |= {"ERROR", "REQUEUE", "NO_REQUEUE", "WAIT"}
    kept = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
    return {
        name: value
        for name, value in os.environ.items()
        if (not name.startswith(("SLURM_", "SLURMD_", "SRUN_")) or name in kept)
        and not (name.startswith("SBATCH_") and name.removeprefix("SBATCH_") in overriding)
    }


def write_queued(array: str, number: int, job: Job) -> None:
    """Write the state ``queued`` to the run folder of a job that is on hold in SLURM.

    Args:
        array: Number of the array.
        number: Number of the job in it.
        job: The job; its folder exists, and no process runs it.
    """
    status = _status(job.run_dir)
    now = time.time()
    status |= {
        "state": files.State.QUEUED,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": now,
        "updated": now,
        "attempt": status.get("attempt", 0),
        "exit_code": None,
        "reason": "",
        "retry": files.retry_command(job.overrides),
        "overrides": dict(job.distinguishing_overrides),
        "identity": job.identity,
        "scheduler_job": {
            "scheduler": "slurm",
            "cluster": cluster_here(),
            "task": f"{array}_{number}",
        },
    }
    if not (job.run_dir / files.CONFIG).exists():  # what reports know it by
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        text = yaml.dump(job.config.tree, Dumper=dumper, sort_keys=False)
        files.write_text(job.run_dir / files.CONFIG, text)
    files.write_json(job.run_dir / files.STATUS, status)


def release(array: str, folder: Path) -> None:
    """Release an array, and complete its submission.

    Args:
        array: Its number.
        folder: The folder of the submission.

    Raises:
        RunError: If SLURM does not release it; the next sweep tries again.
    """
    done = ask_slurm("scontrol", "release", array)
    if done is None or done.returncode:
        reason = done.stderr.strip() if done else "scontrol does not answer"
        raise RunError(
            f"SLURM has the jobs as {array}, but did not release them: {reason}\n"
            f"Run the same command again, or: scontrol release {array}"
        )
    files.write_text(folder / NUMBER, f"{array}\n")


def complete_submissions(folder: Path) -> None:
    """Complete the submissions of a folder during which a sweep was killed, or cancel them.

    Args:
        folder: The folder of the sweep, in which this process alone submits.

    Raises:
        RunError: If SLURM does not cancel an array that is on hold.
    """
    for place in sorted((folder / FOLDER).iterdir()):
        if not place.is_dir() or (place / NUMBER).exists():
            continue
        tasks = ask_queue_by_name(place.name)
        if tasks is None:
            raise RunError(f"squeue does not answer, and {place} may be in SLURM. Try again later.")
        array = next(iter(tasks), "").partition("_")[0]
        if not tasks or any(task.reason == HELD for task in tasks.values()):
            done = ask_slurm("scancel", array) if tasks else None
            if tasks and (done is None or done.returncode):
                raise RunError(f"{array} is on hold in SLURM. Cancel it: scancel {array}")
            shutil.rmtree(place)  # nothing of it has run, or SLURM has forgotten it
        else:
            files.write_text(place / NUMBER, f"{array}\n")


def queued_task(job: Job) -> str:
    """Return the name of the task of this machine's SLURM that has a job; empty if none may.

    Args:
        job: The job.
    """
    status = _status(job.run_dir)
    identity = status.get("identity", job.identity)
    place: Mapping[str, Any] = status.get("scheduler_job") or {}
    is_here = place.get("scheduler") == "slurm" and place.get("cluster") == cluster_here()
    return str(place.get("task") or "") if is_here and identity == job.identity else ""


def _status(run_dir: Path) -> dict[str, Any]:
    try:
        return files.read_json(run_dir / files.STATUS) or {}
    except (OSError, RunError):
        return {}
