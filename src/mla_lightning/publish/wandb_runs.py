"""Upload of finished run folders to Weights & Biases, with the content that its logger writes."""

from __future__ import annotations

import copy
import dataclasses
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mla_lightning.errors import RunError
from mla_lightning.loggers.wandb import Wandb, WandbRun
from mla_lightning.report.read.run_folders import read_run
from mla_lightning.run_folder import METRICS, PROVENANCE, State
from mla_lightning.run_folder.columns import STEP
from mla_lightning.run_folder.reader import RunFiles


@dataclass
class SendCounts:
    """Counts of run folders after an upload.

    Attributes:
        online: Number of runs that the server accepted.
        kept: Offline folders for ``wandb sync``, of the runs that were not sent to the server.
        left: Number of folders without a result.
        rejected: Number of runs that W&B could not start.
        damaged: Number of folders with files that cannot be read.
    """

    online: int = 0
    kept: list[Path] = field(default_factory=list)
    left: int = 0
    rejected: int = 0
    damaged: int = 0


def send(run_dirs: Sequence[Path], wandb: Wandb) -> SendCounts:
    """Send finished run folders to W&B.

    Every run is sent completely, also if it was logged or sent before. If the server does not
    accept a run, the remaining ones are written offline. Damaged runs are printed and left out.

    Args:
        run_dirs: The run folders; those without a result are left out.
        wandb: Project, entity and mode; ``offline`` writes files for ``wandb sync`` to the folders.

    Returns:
        The counts.

    Raises:
        RunError: If W&B is not installed or rejects the project; nothing is sent then.
    """
    _require_wandb(wandb)
    wandb = copy.copy(wandb)
    wandb.without_wandb = "this run is not sent"
    counts = SendCounts()
    for run_dir in run_dirs:
        entry = read_run(run_dir)
        if entry is None or not (entry.is_finished or entry.state == State.UNREADABLE):
            counts.left += 1
            continue
        try:
            if entry.state == State.UNREADABLE:
                raise RunError(entry.reason)
            files = RunFiles(run_dir)
            rows = _rows_by_step(files)
            run = _start_run(files, wandb)
        except RunError as error:
            counts.damaged += 1
            print(f"W&B: {run_dir} is damaged and left out: {error}", flush=True)
            continue
        if run is None:
            counts.rejected += 1
            continue
        if entry.stale:  # as the reports of the run say
            run.experiment.summary.update({"earlier code, changed since": entry.stale})
            print(f"W&B: {run_dir} was made by earlier code; changed since: {entry.stale}")
        run.log_all_steps()
        for step, row in rows:
            run.log_metrics(row, step=step)
        run.finish(0)
        if run.is_offline:
            counts.kept.append(run.sync_dir)
            wandb.mode = "offline"
        else:
            counts.online += 1
    return counts


def _require_wandb(wandb: Wandb) -> None:
    """Check W&B's installation and the project once, instead of for every run."""
    install = "Install it:  pip install 'wandb>=0.25'"
    try:
        package: Any = importlib.import_module("wandb")
    except ImportError as error:
        raise RunError(
            f"Nothing was sent: wandb cannot be imported ({error}). {install}"
        ) from error
    if not hasattr(package, "Settings"):  # a folder of this name, such as W&B's offline files
        raise RunError(f"Nothing was sent: wandb is not installed. {install}")
    try:
        package.Settings(project=wandb.project, entity=wandb.entity)
    except Exception as error:  # the types of errors differ between versions
        reason = str(error).strip().partition("\n")[0]
        raise RunError(
            f"Nothing was sent: W&B rejects project or entity ({reason}). Choose another name: "
            "--to-wandb PROJECT"
        ) from error


def _rows_by_step(run: RunFiles) -> list[tuple[int, dict[str, float]]]:
    """Return step and metrics of all rows, read before anything is sent: no run is sent in part."""
    try:
        return [(int(row[STEP]), row) for row in run.metrics]
    except KeyError as error:
        raise RunError(f"{METRICS} has no column {error}") from error
    except (OverflowError, ValueError) as error:
        raise RunError(f"{METRICS} cannot be read: {error}") from error


def _start_run(run: RunFiles, wandb: Wandb) -> WandbRun | None:
    """Start the W&B run of a run folder; return None if W&B cannot start it."""
    config = dataclasses.replace(run.config, overwrite=True)
    identity = run.provenance.get("identity")
    if not isinstance(identity, str):
        raise RunError(f"{PROVENANCE} has no identity")
    code = run.provenance.get("code")
    run_id = f"{identity[:8]}{code['hash'][:8]}" if isinstance(code, dict) else identity
    try:
        return wandb.make(config, run.folder, run_id)
    except (AttributeError, KeyError, TypeError) as error:
        # Errors of W&B itself are printed by the logger; these are errors in the config.
        raise RunError(f"the run's config is not as expected: {error!r}") from error
