"""Records of a run: state, provenance, predictions; and checks of the folder that it is to use."""

from __future__ import annotations

import os
import platform
import resource
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

from mla_lightning import __version__
from mla_lightning import run_folder as files
from mla_lightning.config import Job
from mla_lightning.config.secrets import mask_secrets
from mla_lightning.config.values import flatten
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.data.prepared import Prepared
from mla_lightning.errors import ConfigError, RunError, reason_of
from mla_lightning.identity import NOT_IDENTITY
from mla_lightning.identity.code import changed_modules, file_of, forget_code
from mla_lightning.run.evaluate import SplitPredictions
from mla_lightning.run.place import PLACE, place_of
from mla_lightning.run_folder.completion import (
    UNKNOWN,
    CompletionKind,
    changed_files,
    complete_set_aside,
    completion_of,
    set_aside,
)
from mla_lightning.run_folder.contents import OTHER_ENTRIES, other_entries
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.scheduler import this_job
from mla_lightning.run_folder.writing import replacing

#: Packages whose versions ``provenance.json`` records.
RECORDED_PACKAGES = ("torch", "lightning", "torchmetrics", "hydra-core", "omegaconf", "numpy")

#: The folder of this package.
_PACKAGE = Path(__file__).parents[1]


def write_predictions(
    run_dir: Path, predictions: SplitPredictions, class_names: tuple[str, ...]
) -> None:
    """Write ``predictions.npz`` atomically.

    Args:
        run_dir: The run folder.
        predictions: Predictions for the test split. ``present_<modality>`` is written only for
            modalities that some sample does not have.
        class_names: Names of the C classes.
    """
    arrays: dict[str, Any] = {f"logits_{k}": z.numpy() for k, z in predictions.logits.items()}
    arrays |= {
        f"present_{name}": has.numpy()
        for name, has in predictions.present.items()
        if not bool(has.all())
    }
    write_arrays(
        run_dir / files.PREDICTIONS,
        {
            "label": predictions.label.numpy(),
            "index": predictions.index.numpy(),
            "class_names": np.array(class_names),
            **arrays,
        },
    )


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to an ``.npz`` file atomically.

    Example:
        >>> write_arrays(tmp / "arrays.npz", {"label": np.array([0, 1])})
        >>> np.load(tmp / "arrays.npz")["label"]
        array([0, 1])
    """
    with replacing(path) as file:
        np.savez_compressed(file, **dict(arrays))  # type: ignore[arg-type]


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory of this process on its device, in MiB.

    On the CPU it is resident memory, which includes about 450 MiB of imported libraries.

    Example:
        >>> peak_memory_mb(torch.device("cpu")) > 100
        True
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (2**20 if sys.platform == "darwin" else 2**10)


def provenance_of(job: Job, data: MultimodalDataModule, started: str) -> dict[str, Any]:
    """Return the content of ``provenance.json``: code, data, versions, machine and command."""
    return {
        "identity": job.identity,
        "code": {"hash": job.code.hash, "modules": dict(job.code.modules)},
        "method_label": job.method_label,
        "data_fingerprint": data.fingerprint,
        "data": data.describe(),
        **_git_state(),
        "versions": {
            "mla_lightning": __version__,
            **{k: version(k) for k in RECORDED_PACKAGES},
        },
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "gpu": _gpu(job.config.trainer.accelerator),
        "threads": job.config.trainer.threads,
        "devices": job.config.trainer.devices,
        "num_nodes": job.config.trainer.num_nodes,
        "seed": job.config.seed,
        "started": started,
        "command": files.retry_command(job.overrides),
        PLACE: place_of(job.run_dir) | _place_of_rows(data),
    }


def _place_of_rows(data: MultimodalDataModule) -> dict[str, str]:
    """Return the folder of the copy that rows are read from, if they are."""
    folder = data.rows_folder if isinstance(data, Prepared) else None
    return {} if folder is None else {"rows": str(folder)}


def _processor() -> str:
    """Return the name of the processor; of Linux its model, which `platform` does not know."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    models = (line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line)
    return next(models, platform.processor() or platform.machine())


def _gpu(accelerator: str) -> str | None:
    """Return the name of the GPU that a job may compute on; None without one."""
    if accelerator == "cpu" or not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_name()


def _git_state() -> dict[str, Any]:
    """Return the commit of this package's files, and whether they differ from it.

    Both are None if the files are in no repository, as when they were installed.
    """
    commit = _git("rev-parse", "HEAD") if _git("ls-files", "--", "__init__.py") else None
    if not commit:
        return {"git_commit": None, "git_dirty": None}
    changes = _git("status", "--porcelain", "--", ".")
    return {"git_commit": commit, "git_dirty": None if changes is None else bool(changes)}


def _git(*words: str) -> str | None:
    """Return what a git command prints in the folder of this package, None if it fails."""
    command = ["git", "--no-optional-locks", "-C", str(_PACKAGE), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def check_code_is_current(job: Job, modules: Mapping[str, str]) -> None:
    """Check that modules of a job's code are as they were when the job was planned.

    Args:
        job: The job.
        modules: The modules to check, with their recorded hashes.

    Raises:
        RunError: If a file was edited since: the run would record code that it does not use.
    """
    forget_code()
    if changed := changed_modules(modules):
        raise RunError(
            f"{', '.join(map(file_of, changed))} changed since this command started, so "
            f"{job.title} would record code that it does not use. Run the same command again."
        )


def describe_finished_run(job: Job) -> str:
    """Return why a job does not need to run; an empty text if it does. Nothing is written.

    Args:
        job: The job.

    Raises:
        ConfigError: If the folder holds a finished run of another job.
        RunError: If its files are damaged.
    """
    run_dir, config = job.run_dir, job.config
    completion = completion_of(run_dir, job.identity, job.code)
    if completion.kind is CompletionKind.NOT_FINISHED:
        return ""
    if completion.kind is CompletionKind.OTHER_JOB and not config.force_resume:
        raise ConfigError(
            f"{run_dir} holds a finished run of another job. Choose another run_dir, or add "
            "overwrite=true to replace it." + _hint_at_earlier_version(run_dir)
        )
    if completion.kind is not CompletionKind.STALE:
        return f"already finished, see {run_dir}. Add overwrite=true to train again."
    if config.stale != "keep":
        return ""
    changed = ", ".join(completion.changed_files)
    return f"finished by other code ({changed} changed since), kept as it is: {run_dir}"


def set_aside_finished_run(job: Job) -> None:
    """Move a finished run to ``earlier/`` if its job is to be trained again.

    With ``overwrite=true`` it is removed from there once the new run is finished; a result of other
    code stays there.

    Args:
        job: The job; the lock of its folder is held.

    Raises:
        RunError: If the result of other code is newer than this command's code.
    """
    complete_set_aside(job.run_dir)
    if job.config.overwrite:
        folder = set_aside(job.run_dir, until_replaced=True)
        if folder is not None:
            print(f"{job.title}: the run before is kept in {folder} until this one is finished.")
        return
    completion = completion_of(job.run_dir, job.identity, job.code)
    if completion.kind is CompletionKind.STALE and not completion.is_done(job.config.stale):
        check_code_is_current(job, job.code.modules)
        changed = ", ".join(completion.changed_files)
        folder = set_aside(job.run_dir)
        print(
            f"{job.title}: {changed} changed since it was finished; its result is kept in {folder}."
        )


def check_unfinished_run(job: Job) -> str:
    """Check that the unfinished run in a job's folder belongs to the job, which then resumes it.

    Checkpoints of other code are moved to ``earlier/``, so that no run mixes two versions of the
    code; with ``force_resume=true`` the run resumes from them.

    Args:
        job: The job; the lock of its folder is held.

    Returns:
        A note for the result if the run resumes in spite of differences; else an empty text.

    Raises:
        ConfigError: If the folder's run had another config or data, with all differences.
    """
    run = RunFiles(job.run_dir)
    if not run.provenance:
        return ""
    if run.provenance.get("identity") != job.identity:
        if job.config.force_resume:
            return "resumed from checkpoints of another job (force_resume=true)"
        raise ConfigError(
            f"{job.run_dir} belongs to another job; resuming would mix the two:\n  "
            + "\n  ".join(_differences(run, job))
            + "\nChoose another run_dir, or add overwrite=true to start again, or "
            "force_resume=true to resume."
        )
    changed = changed_files(run.provenance)
    if not changed or not (job.run_dir / files.CHECKPOINTS).is_dir():
        return ""
    if job.config.force_resume:
        return f"resumed although the code changed: {', '.join(changed)} (force_resume=true)"
    folder = set_aside(job.run_dir)
    print(
        f"{job.title}: {', '.join(changed)} changed since its checkpoints were written, so it "
        f"starts again; they are kept in {folder}. Add force_resume=true to resume from them."
    )
    return ""


def _differences(run: RunFiles, job: Job) -> list[str]:
    """Return the differences in config and data between a folder's run and a job."""
    try:
        old = dict(flatten(run.tree))
    except RunError as error:
        return [str(error)]
    new = dict(flatten(job.config.tree))
    keys = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
    keys = [k for k in keys if k.split(".")[0] not in NOT_IDENTITY]
    differences = [f"{k}: {old.get(k, '(none)')} -> {new.get(k, '(none)')}" for k in keys]
    if run.provenance.get("data_fingerprint") != job.data_fingerprint:
        differences.append("the data have changed")
    if changed_files(run.provenance) == (UNKNOWN,):
        differences.append("it was made by an earlier version, whose identities included the code")
    return differences or ["no difference that its files record"]


def _hint_at_earlier_version(run_dir: Path) -> str:
    provenance = RunFiles(run_dir).provenance
    if changed_files(provenance) != (UNKNOWN,):
        return ""
    return (
        " It may be this job, run by an earlier version, whose identities included the code: "
        "force_resume=true accepts it as it is."
    )


class StatusFile:
    """The ``status.json`` of a job, and its ``error.txt`` after a failure."""

    def __init__(self, job: Job) -> None:
        """Read the number of earlier attempts.

        Args:
            job: The job; its folder exists.
        """
        self.job = job
        previous = files.read_json(job.run_dir / files.STATUS) or {}
        self.attempt = int(previous.get("attempt", 0)) + 1
        self.started = time.time()
        self._entries_before = set(other_entries(job.run_dir))
        self._own_entries = set(previous.get(OTHER_ENTRIES) or ())

    def write(self, state: files.State, exit_code: int | None = None, reason: str = "") -> None:
        """Replace ``status.json``."""
        self._own_entries |= set(other_entries(self.job.run_dir)) - self._entries_before
        scheduler_job = this_job()
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
                "overrides": dict(self.job.distinguishing_overrides),
                OTHER_ENTRIES: sorted(self._own_entries),
                **({"scheduler_job": scheduler_job} if scheduler_job else {}),
            },
        )

    def fail(self, state: files.State, exit_code: int, reason: str, trace: str = "") -> bool:
        """Write status and error; print an error if the disk does not allow it.

        Args:
            state: The state.
            exit_code: Exit code of the job.
            reason: The reason.
            trace: The traceback; that of the error that is handled by default.

        Returns:
            Whether both are written.
        """
        retry = files.retry_command(self.job.overrides)
        reason = mask_secrets(reason)
        text = f"{reason}\n\nRetry: {retry}\n\n{mask_secrets(trace or traceback.format_exc())}"
        try:
            self.write(state, exit_code, reason)
            files.write_text(self.job.run_dir / files.ERROR, text)
        except OSError as error:
            text = f"error: the failure cannot be recorded: {reason_of(error)}"
            print(text, file=sys.stderr)
            return False
        return True
