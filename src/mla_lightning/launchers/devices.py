"""Cores and GPUs that this process may use, found without initialising CUDA."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable

from mla_lightning.errors import ConfigError


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


def plan_slots(jobs: int | None, threads: int, accelerators: Iterable[str]) -> list[dict[str, str]]:
    """Plan how many jobs run at a time, and on which GPUs.

    Args:
        jobs: Number of jobs at a time; None for one per GPU if GPUs are used and available, else
            for as many as the cores allow.
        threads: Number of threads of each job.
        accelerators: The jobs' ``trainer.accelerator``.

    Returns:
        For each slot, the environment variables of the jobs that run in it.

    Raises:
        ConfigError: If the jobs need more cores than this process may use.

    Example:
        >>> plan_slots(jobs=1, threads=1, accelerators=["cpu"])
        [{}]
    """
    cores = visible_cores()
    if jobs is not None and jobs < 1:
        raise ConfigError(f"launcher.jobs must be at least 1 or null, got {jobs}")
    if threads > cores:
        raise ConfigError(
            f"trainer.threads={threads} needs {threads} cores, but this process may use {cores}. "
            f"Use trainer.threads={cores}."
        )
    gpus = visible_gpus() if set(accelerators) & {"gpu", "cuda", "auto"} else ()
    max_jobs = cores // threads
    if jobs is None:
        jobs = min(len(gpus), max_jobs) if gpus else max_jobs
    if jobs * threads > cores:
        raise ConfigError(
            f"launcher.jobs={jobs} with trainer.threads={threads} needs {jobs * threads} cores, "
            f"but this process may use {cores}: the jobs would slow each other down. "
            f"Use launcher.jobs={max_jobs}, or null for as many as fit."
        )
    if not gpus:
        return [{} for _ in range(jobs)]
    return [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(jobs)]
