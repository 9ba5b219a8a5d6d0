"""What this process may use: cores and GPUs, counted without waking any driver."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable

from mla_lightning.errors import ConfigError


def visible_cores() -> int:
    """Count the cores that this process may run on (a container or taskset may allow fewer)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> tuple[str, ...]:
    """Name the NVIDIA GPUs that this process may use.

    The driver's own listing is asked in a process of its own: asking through torch can initialise
    CUDA here, and a process that has done so must not fork.

    Returns:
        What ``CUDA_VISIBLE_DEVICES`` takes, one entry per device: its own entries where it is set,
        else the UUIDs of the GPUs or, where a GPU is partitioned, of its MIG devices.
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
    return tuple(entries[:valid])  # CUDA, too, ignores everything from the first invalid entry on


def parse_listing(text: str) -> tuple[str, ...]:
    """Read the output of ``nvidia-smi -L``.

    Args:
        text: Lines such as ``GPU 0: NVIDIA H200 (UUID: GPU-8f...)``, each followed by the indented
            lines of its MIG devices, if it has some.

    Returns:
        The UUIDs to compute on.
    """
    found: list[str] = []
    for line in text.splitlines():
        if (match := re.search(r"UUID: ([^)\s]+)\)", line)) is None:
            continue
        uuid = match.group(1)
        if uuid.startswith("MIG-") and found and found[-1].startswith("GPU-"):
            found.pop()  # a partitioned GPU is used through its parts
        found.append(uuid)
    return tuple(found)


def plan_slots(jobs: int | None, threads: int, accelerators: Iterable[str]) -> list[dict[str, str]]:
    """Decide how many jobs run at a time, and where.

    Args:
        jobs: The most jobs at a time; None for as many as fit: one per GPU if GPUs are used and
            there, else as many as the cores allow.
        threads: Threads that each job computes with.
        accelerators: The jobs' ``trainer.accelerator``.

    Returns:
        One entry per slot: the environment variables of jobs that run there.

    Raises:
        ConfigError: If the jobs' threads would fight for the cores.
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
    fitting = cores // threads
    if jobs is None:
        jobs = min(len(gpus), fitting) if gpus else fitting
    if jobs * threads > cores:
        raise ConfigError(
            f"launcher.jobs={jobs} with trainer.threads={threads} needs {jobs * threads} cores, "
            f"but this process may use {cores}: the jobs would slow each other down. "
            f"Use launcher.jobs={fitting}, or null for as many as fit."
        )
    if not gpus:
        return [{} for _ in range(jobs)]
    return [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(jobs)]
