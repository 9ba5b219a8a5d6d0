"""The rank that srun or torchrun has given to this process: one of several that train one job."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from mla_lightning.errors import ConfigError

#: Ports that neither services nor short-lived connections use by default.
_PORTS = range(10_000, 32_000)


@dataclass(frozen=True)
class StartedRank:
    """A process that srun or torchrun has started as one of several that train one job.

    Attributes:
        rank: Its number; the first one, 0, alone writes to the run folder.
        num_ranks: Number of processes.
        local_rank: Its number on its machine.
        address: Address of the machine of rank 0.
        port: Port at which the ranks meet there.
        has_store: Whether the process that started the ranks answers at the port, as torchrun
            does; else rank 0 does.

    Example:
        >>> StartedRank(1, 2, 0, "node1", 29500).is_first
        False
    """

    rank: int
    num_ranks: int
    local_rank: int
    address: str
    port: int
    has_store: bool = False

    @property
    def is_first(self) -> bool:
        """Whether it is rank 0."""
        return self.rank == 0


def started_rank(
    devices: int, num_nodes: int, variables: Mapping[str, str] = os.environ
) -> StartedRank | None:
    """Return the rank that srun or torchrun has given to this process.

    Args:
        devices: Number of processes per machine that the job is to have.
        num_nodes: Number of machines.
        variables: The variables of the environment.

    Returns:
        The rank; None if this process is to start the others, or is to be the only one.

    Raises:
        ConfigError: If srun or torchrun has started another number of processes, or there are
            several machines and neither has started any.

    Example:
        >>> started_rank(1, 1, {})
        >>> names = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        >>> started_rank(2, 1, {**names, "MASTER_ADDR": "node1", "MASTER_PORT": "29500"})
        StartedRank(rank=1, num_ranks=2, local_rank=1, address='node1', port=29500, has_store=False)
        >>> started_rank(1, 1, names)
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: torchrun has started 2 processes, ...
    """
    started = _number(variables, "WORLD_SIZE")
    if started > 1 and "RANK" in variables:
        return _of_torchrun(devices, num_nodes, started, variables)
    tasks = num_tasks(variables)
    if tasks > 1 and devices * num_nodes > 1:
        return _of_srun(devices, num_nodes, tasks, variables)
    if num_nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes={num_nodes}: this process runs on one machine, and the processes "
            f"of the others must be started with it. {how_to_start(devices, num_nodes)}"
        )
    return None


def num_tasks(variables: Mapping[str, str] = os.environ) -> int:
    """Return the number of processes that srun has started of this command, 1 outside of srun.

    Example:
        >>> num_tasks({"SLURM_NTASKS": "4"}), num_tasks({"SLURM_STEP_NUM_TASKS": "4"})
        (1, 4)
    """
    # SLURM_NTASKS is also set in the script of a job, which is one process.
    return _number(variables, "SLURM_STEP_NUM_TASKS")


def how_to_start(devices: int, num_nodes: int) -> str:
    """Return the commands that start a job on several machines.

    Example:
        >>> how_to_start(4, 2)
        'Under SLURM: `mla train -m launcher=slurm trainer.num_nodes=2 trainer.devices=4 ...`, or in
         your script `srun --nodes=2 --ntasks-per-node=4 mla train ...`. Without SLURM, on each
         machine: `torchrun --nnodes=2 --nproc_per_node=4 ... mla train ...`.'
    """
    return (
        f"Under SLURM: `mla train -m launcher=slurm trainer.num_nodes={num_nodes} "
        f"trainer.devices={devices} ...`, or in your script `srun --nodes={num_nodes} "
        f"--ntasks-per-node={devices} mla train ...`. Without SLURM, on each machine: "
        f"`torchrun --nnodes={num_nodes} "
        f"--nproc_per_node={devices} --rdzv_backend=c10d --rdzv_endpoint=HOST:29500 --no-python "
        "mla train ...`."
    )


def _of_torchrun(
    devices: int, num_nodes: int, started: int, variables: Mapping[str, str]
) -> StartedRank:
    local = _number(variables, "LOCAL_WORLD_SIZE", started // num_nodes)
    if (started, local) != (devices * num_nodes, devices):
        nodes = f" on {started // local} machines" if started > local else ""
        raise ConfigError(
            f"torchrun has started {started} processes{nodes}, and the job has "
            f"{_settings(devices, num_nodes)}. Write trainer.devices={local} "
            f"trainer.num_nodes={max(1, started // local)}"
            + (", or start `mla train` without torchrun." if num_nodes == 1 else ".")
        )
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in variables]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE={started} and RANK={variables['RANK']} are set, but not "
            f"{' and '.join(missing)}. Start the processes with torchrun or srun, or unset these "
            "variables."
        )
    rank = _number(variables, "RANK", 0)
    return StartedRank(
        rank,
        started,
        _number(variables, "LOCAL_RANK", rank % devices),
        variables["MASTER_ADDR"],
        _number(variables, "MASTER_PORT"),
        variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )


def _of_srun(devices: int, num_nodes: int, tasks: int, variables: Mapping[str, str]) -> StartedRank:
    nodes = _number(variables, "SLURM_STEP_NUM_NODES", num_nodes)
    if (tasks, nodes) != (devices * num_nodes, num_nodes):
        machines = f" on {nodes} machines" if nodes > 1 else ""
        raise ConfigError(
            f"srun has started {tasks} processes{machines}, and the job has "
            f"{_settings(devices, num_nodes)}. Write `srun --nodes={num_nodes} "
            f"--ntasks-per-node={devices} mla train ...`."
        )
    return StartedRank(
        _number(variables, "SLURM_PROCID", 0),
        tasks,
        _number(variables, "SLURM_LOCALID", 0),
        variables.get("MASTER_ADDR") or _first_address(variables),
        _number(variables, "MASTER_PORT", _port_of_step(variables)),
    )


def _settings(devices: int, num_nodes: int) -> str:
    return f"trainer.devices={devices} and trainer.num_nodes={num_nodes}"


def _number(variables: Mapping[str, str], name: str, default: int = 1) -> int:
    text = variables.get(name, "")
    return int(text) if text.isdecimal() else default


def _port_of_step(variables: Mapping[str, str]) -> int:
    """Return a port that differs between steps of SLURM, and between starts of one."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    text = ".".join(variables.get(name, "0") for name in names)
    return _PORTS[zlib.crc32(text.encode()) % len(_PORTS)]


def _first_address(variables: Mapping[str, str]) -> str:
    """Return the address of the first machine of a step, as SLURM's own configuration has it."""
    nodes = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_JOB_NODELIST", "")
    name = (_ask("show", "hostnames", nodes).split() or [""])[0]
    words = _ask("show", "node", name).split() if name else []
    address = next((w.partition("=")[2] for w in words if w.startswith("NodeAddr=")), name)
    if not address:
        raise ConfigError(
            f"scontrol does not say which machines {nodes!r} are. Set MASTER_ADDR to the address "
            "of the first one: `MASTER_ADDR=$(hostname) srun ... mla train ...` in the script."
        )
    return address


def _ask(*words: str) -> str:
    """Return what scontrol prints; an empty text if it fails or is missing."""
    if shutil.which("scontrol") is None:
        return ""
    try:
        done = subprocess.run(
            ["scontrol", *words], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
