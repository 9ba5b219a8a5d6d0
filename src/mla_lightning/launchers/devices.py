"""Cores and GPUs that this process may use, found without initialising CUDA."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mla_lightning.errors import ConfigError
from mla_lightning.run_folder.rank_variables import how_to_start, started_rank

if TYPE_CHECKING:
    from mla_lightning.config import Job


def visible_cores() -> int:
    """Return the number of cores that this process may use, within limits of containers or taskset.

    Example:
        >>> 1 <= visible_cores() <= os.cpu_count()
        True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> tuple[str, ...]:
    """Return the NVIDIA GPUs that this process may use.

    They are listed by ``nvidia-smi``. A query through torch could initialise CUDA in this process,
    and a process with CUDA must not fork.

    Returns:
        Values for ``CUDA_VISIBLE_DEVICES``, one per device: its entries if it is set, else the
        UUIDs of the GPUs or, for partitioned GPUs, of their MIG devices.
    """
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    try:
        listing = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    uuids = parse_listing(listing.stdout) if listing.returncode == 0 else ()
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not uuids or allowed is None:
        return uuids
    entries = [entry.strip() for entry in allowed.split(",")]
    valid = next((i for i, entry in enumerate(entries) if entry in ("", "-1")), len(entries))
    return tuple(entries[:valid])  # CUDA ignores the first invalid entry and all after it


def parse_listing(text: str) -> tuple[str, ...]:
    r"""Parse the output of ``nvidia-smi -L``.

    Args:
        text: Lines such as ``GPU 0: NVIDIA H200 (UUID: GPU-8f...)``, each followed by the indented
            lines of its MIG devices, if it has any.

    Returns:
        The UUIDs of the devices that jobs can use; of a partitioned GPU only its MIG devices.

    Example:
        >>> parse_listing("GPU 0: A100 (UUID: GPU-1)\n  MIG 3g.20gb Device 0: (UUID: MIG-a)")
        ('MIG-a',)
    """
    uuids: list[str] = []
    for line in text.splitlines():
        if (match := re.search(r"UUID: ([^)\s]+)\)", line)) is None:
            continue
        uuid = match.group(1)
        if uuid.startswith("MIG-") and uuids and uuids[-1].startswith("GPU-"):
            uuids.pop()  # a partitioned GPU itself cannot be used
        uuids.append(uuid)
    return tuple(uuids)


def plan_slots(
    jobs: int | None,
    threads: int,
    accelerators: Iterable[str],
    *,
    devices: int = 1,
    jobs_per_gpu: int = 1,
) -> list[dict[str, str]]:
    """Plan how many jobs run at a time, and on which GPUs.

    Args:
        jobs: Number of jobs at a time; None for as many as the GPUs allow if GPUs are used and
            available, else as many as the cores allow.
        threads: Number of threads of each process of a job.
        accelerators: The jobs' ``trainer.accelerator``.
        devices: Number of processes of each job, each on a device of its own.
        jobs_per_gpu: Number of jobs at a time on one GPU.

    Returns:
        For each slot, the environment variables of the jobs that run in it.

    Raises:
        ConfigError: If the jobs need more cores or GPUs than this process may use.

    Example:
        >>> plan_slots(jobs=1, threads=1, accelerators=["cpu"])
        [{}]
    """
    cores = visible_cores()
    if jobs is not None and jobs < 1:
        raise ConfigError(f"launcher.jobs must be at least 1 or null, got {jobs}")
    if threads * devices > cores:
        raise ConfigError(_too_few_cores(threads, devices, cores))
    gpus = visible_gpus() if set(accelerators) & {"gpu", "cuda", "auto"} else ()
    _check_sharing(gpus, devices, jobs_per_gpu)
    if gpus and devices > len(gpus):
        raise ConfigError(
            f"trainer.devices={devices} needs {devices} GPUs, and this process may use "
            f"{len(gpus)}. Write trainer.devices={len(gpus)}."
        )
    sets = [gpus[n : n + devices] for n in range(0, len(gpus) - devices + 1, devices)]
    max_jobs = cores // (threads * devices)
    if jobs is None:
        jobs = min(len(sets) * jobs_per_gpu, max_jobs) if gpus else max_jobs
    if jobs > max_jobs:
        several = f" and trainer.devices={devices}" if devices > 1 else ""
        raise ConfigError(
            f"launcher.jobs={jobs} with trainer.threads={threads}{several} needs "
            f"{jobs * threads * devices} cores, but this process may use {cores}: the jobs would "
            f"slow each other down. Use launcher.jobs={max_jobs}, or null for as many as fit."
        )
    if gpus and jobs > len(sets) and devices > 1:
        raise ConfigError(
            f"launcher.jobs={jobs} with trainer.devices={devices} needs {jobs * devices} GPUs, and "
            f"this process may use {len(gpus)}. Use launcher.jobs={len(sets)}, or null for as many "
            "as fit."
        )
    if gpus and jobs_per_gpu > 1 and jobs > len(sets) * jobs_per_gpu:
        raise ConfigError(
            f"launcher.jobs={jobs} is more than launcher.jobs_per_gpu={jobs_per_gpu} on "
            f"{len(gpus)} GPUs. Use launcher.jobs={len(sets) * jobs_per_gpu}, or null for as many "
            "as fit."
        )
    if not gpus:
        return [{} for _ in range(jobs)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(sets[n % len(sets)])} for n in range(jobs)]


def check_processes(jobs: Iterable[Job], launcher: str) -> None:
    """Check that a launcher of this machine can start all processes of each job.

    Args:
        jobs: The jobs.
        launcher: Name of the launcher.

    Raises:
        ConfigError: If a job needs several machines, or this process is itself one of several that
            train one job.

    Example:
        >>> check_processes([], "fork")
    """
    for job in jobs:
        trainer = job.config.trainer
        if trainer.num_ranks == 1:
            continue
        if trainer.num_nodes > 1:
            raise ConfigError(
                f"trainer.num_nodes={trainer.num_nodes}: launcher={launcher} runs jobs on this "
                f"machine alone. {how_to_start(trainer.devices, trainer.num_nodes)}"
            )
        if started_rank(trainer.devices, trainer.num_nodes) is not None:
            raise ConfigError(
                "srun or torchrun has started this sweep several times, as ranks of one job, and "
                "-m runs many. Start it once: it starts the processes of each job."
            )


def _too_few_cores(threads: int, devices: int, cores: int) -> str:
    if threads > cores or devices == 1:
        return (
            f"trainer.threads={threads} needs {threads} cores, but this process may use {cores}. "
            f"Use trainer.threads={cores}."
        )
    return (
        f"trainer.devices={devices} with trainer.threads={threads} needs {devices * threads} "
        f"cores, but this process may use {cores}: processes that wait for a core make every step "
        f"of all others wait. Use trainer.devices={cores // threads}."
    )


def _check_sharing(gpus: tuple[str, ...], devices: int, jobs_per_gpu: int) -> None:
    """Check that several jobs per GPU are possible if there are to be any."""
    if jobs_per_gpu == 1:
        return
    key = f"launcher.jobs_per_gpu={jobs_per_gpu}"
    if devices > 1:
        raise ConfigError(
            f"{key} with trainer.devices={devices}: a job that needs several GPUs leaves no room "
            "for others. Leave launcher.jobs_per_gpu out."
        )
    if not gpus:
        raise ConfigError(
            f"{key} has no effect: these jobs use no GPU (trainer.accelerator=cpu), or this "
            "process may use none (see `nvidia-smi -L` and CUDA_VISIBLE_DEVICES). Leave it out; "
            "launcher.jobs sets the number of jobs at a time."
        )
