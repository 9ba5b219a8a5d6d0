"""What a run writes about itself: state, origin, predictions; and whose folder it may use."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from mla_lightning import __version__
from mla_lightning import run_folder as files
from mla_lightning.config import Job
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.errors import ConfigError
from mla_lightning.identity import NOT_IDENTITY, code_fingerprint
from mla_lightning.run_folder import State
from mla_lightning.run_lock import LOCK

VERSIONS_OF = ("torch", "lightning", "torchmetrics", "hydra-core", "omegaconf", "numpy")


def write_predictions(
    run_dir: Path,
    logits: Mapping[str, Tensor],
    label: Tensor,
    index: Tensor,
    class_names: tuple[str, ...],
    present: Mapping[str, Tensor],
) -> None:
    """Write ``predictions.npz`` atomically.

    Args:
        run_dir: The run folder.
        logits: Reported modality -> logits (N, C).
        label: Labels (N,).
        index: Sample numbers (N,).
        class_names: Names of the C classes.
        present: Modality -> (N,) bool; ``present_<modality>`` is written of those that a sample
            lacks.
    """
    path = run_dir / files.PREDICTIONS
    temporary = path.with_name(f".{path.name}.tmp")
    by_modality: dict[str, Any] = {f"logits_{k}": value.numpy() for k, value in logits.items()}
    by_modality |= {f"present_{k}": v.numpy() for k, v in present.items() if not bool(v.all())}
    with temporary.open("wb") as file:
        np.savez_compressed(
            file,
            label=label.numpy(),
            index=index.numpy(),
            class_names=np.array(class_names),
            **by_modality,
        )
    temporary.replace(path)


def peak_memory_mb(device: torch.device) -> float:
    """Tell the most memory in MiB that this process held on its device.

    On the CPU that is resident memory and includes the imports, about 450 MiB.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (2**20 if sys.platform == "darwin" else 2**10)


def provenance_of(job: Job, data: MultimodalDataModule, started: str) -> dict[str, Any]:
    """Tell where a run's numbers come from: code, data, versions, machine, command."""
    return {
        "identity": job.identity,
        "code_fingerprint": code_fingerprint(),
        "data_fingerprint": data.fingerprint,
        "data": data.describe(),
        "git_commit": _git_commit(),
        "versions": {
            "mla_lightning": __version__,
            **{k: version(k) for k in VERSIONS_OF},
        },
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": job.config["trainer"]["threads"],
        "seed": job.config["seed"],
        "started": started,
        "command": files.retry_command(job.overrides),
    }


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def refuse_another_identity(job: Job) -> None:
    """Refuse a folder that holds another job's checkpoints: never mix two jobs.

    Args:
        job: The job that is to use its folder.

    Raises:
        ConfigError: If the folder's run had another config, data or code, with all differences.
    """
    known = files.read_json(job.run_dir / files.PROVENANCE)
    if known is None or known["identity"] == job.identity or job.config.get("force_resume"):
        return
    old = _flat(yaml.safe_load((job.run_dir / files.CONFIG).read_text(encoding="utf-8")))
    new = _flat(job.config)
    keys = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
    keys = [k for k in keys if k.split(".")[0] not in NOT_IDENTITY]
    differences = [f"{k}: {old.get(k, '(none)')} -> {new.get(k, '(none)')}" for k in keys]
    if known["code_fingerprint"] != code_fingerprint():
        differences.append("the code of mla_lightning has changed")
    if not differences:
        differences.append("the data have changed")
    raise ConfigError(
        f"{job.run_dir} belongs to another job; going on would mix the two:\n  "
        + "\n  ".join(differences)
        + "\nChoose another run_dir, or add overwrite=true to start afresh, or force_resume=true."
    )


def already_finished(job: Job) -> int:
    """Say that a folder holds a finished run.

    Args:
        job: The job that was to be run.

    Returns:
        0 if that run is this job, else the exit code of a bad config.
    """
    result = files.read_json(job.run_dir / files.RESULT)
    if (
        result is not None
        and result["identity"] != job.identity
        and not job.config.get("force_resume")
    ):
        print(
            f"error: {job.run_dir} holds a finished run of another job. Choose another run_dir, or "
            "add overwrite=true to replace it.",
            file=sys.stderr,
        )
        return ConfigError.exit_code
    print(f"{job.title}: already finished, see {job.run_dir}. Add overwrite=true to train again.")
    return 0


def empty(run_dir: Path) -> None:
    """Remove an earlier run, for one that is to overwrite it; the lock and the log stay."""
    for path in run_dir.iterdir():
        if path.name in (LOCK, files.LOG):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, Mapping):
        pairs = [_flat(value, f"{prefix}{key}.") for key, value in node.items()]
        return {key: value for pair in pairs for key, value in pair.items()}
    return {prefix[:-1]: node}


class Status:
    """Writes what state a run is in, and what went wrong."""

    def __init__(self, job: Job) -> None:
        """Read how often the job was tried before.

        Args:
            job: The job; its folder exists.
        """
        self.job = job
        before = files.read_json(job.run_dir / files.STATUS) or {}
        self.attempt = int(before.get("attempt", 0)) + 1
        self.started = time.time()

    def write(self, state: State, exit_code: int | None = None, reason: str = "") -> None:
        """Replace ``status.json``."""
        files.write_json(
            self.job.run_dir / files.STATUS,
            {
                "state": state,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "started": self.started,
                "updated": time.time(),
                "attempt": self.attempt,
                "exit_code": exit_code,
                "reason": reason,
                "retry": files.retry_command(self.job.overrides),
                "overrides": dict(self.job.distinguishes),
            },
        )

    def fail(self, state: State, exit_code: int, reason: str) -> None:
        """Write status and error as far as the disk allows, and print the message."""
        retry = files.retry_command(self.job.overrides)
        text = f"{reason}\n\nRetry: {retry}\n\n{traceback.format_exc()}"
        print(f"error: {reason}", file=sys.stderr)
        try:
            self.write(state, exit_code, reason)
            files.write_text(self.job.run_dir / files.ERROR, text)
        except OSError as error:
            print(f"error: cannot write to {self.job.run_dir}: {error}", file=sys.stderr)
