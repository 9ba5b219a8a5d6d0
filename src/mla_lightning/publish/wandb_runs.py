"""Finished run folders to Weights & Biases, as if they had been trained with its logger."""

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
class Sent:
    """What became of run folders that were to be sent.

    Attributes:
        online: How many the server took.
        kept: Folders for ``wandb sync``, of runs that it did not take or was not asked to.
        left: How many have no result.
        refused: How many W&B could not even start.
        damaged: How many have files that cannot be read.
    """

    online: int = 0
    kept: list[Path] = field(default_factory=list)
    left: int = 0
    refused: int = 0
    damaged: int = 0


def send(run_dirs: Sequence[Path], spec: Wandb) -> Sent:
    """Send finished run folders to W&B.

    Each goes afresh and whole, also if it was logged or sent before. Where the server does not
    take one, it is not asked again. A damaged run is named and left out; the others go on.

    Args:
        run_dirs: The run folders; those without a result are left out.
        spec: Where to; with ``mode=offline`` files for ``wandb sync`` are written into the folders.

    Returns:
        What became of them.

    Raises:
        RunError: If W&B is not installed or refuses the project; nothing is sent then.
    """
    _require(spec)
    spec = copy.copy(spec)
    spec.otherwise = "this run is not sent"
    sent = Sent()
    for run_dir in run_dirs:
        about = read_run(run_dir)
        if about is None or not (about.is_finished or about.state == State.UNREADABLE):
            sent.left += 1
            continue
        try:
            if about.state == State.UNREADABLE:
                raise RunError(about.reason)
            files = RunFiles(run_dir)
            rows = _rows(files)
            run = _begun(files, spec)
        except RunError as error:
            sent.damaged += 1
            print(f"W&B: {run_dir} is damaged and left out: {error}", flush=True)
            continue
        if run is None:
            sent.refused += 1
            continue
        run.begin_afresh()
        for step, row in rows:
            run.log_metrics(row, step=step)
        run.finish(0)
        if run.is_offline:
            sent.kept.append(run.sync_dir)
            spec.mode = "offline"
        else:
            sent.online += 1
    return sent


def _require(spec: Wandb) -> None:
    """Ask once what every run would be refused for."""
    install = "Install it:  pip install 'wandb>=0.25'"
    try:
        wandb: Any = importlib.import_module("wandb")
    except ImportError as error:
        raise RunError(
            f"Nothing was sent: wandb cannot be imported ({error}). {install}"
        ) from error
    if not hasattr(wandb, "Settings"):  # a folder of that name, such as W&B's own files
        raise RunError(f"Nothing was sent: wandb is not installed. {install}")
    try:
        wandb.Settings(project=spec.project, entity=spec.entity)
    except Exception as error:  # of its own kinds, which differ between versions
        reason = str(error).strip().partition("\n")[0]
        raise RunError(
            f"Nothing was sent: W&B refuses it ({reason}). Choose another name: --to-wandb PROJECT"
        ) from error


def _rows(run: RunFiles) -> list[tuple[int, dict[str, float]]]:
    """Read all rows before a run is begun: half a run on the server would look like a whole one."""
    try:
        return [(int(row[STEP]), row) for row in run.metrics]
    except KeyError as error:
        raise RunError(f"{METRICS} has no column {error}") from error
    except (OverflowError, ValueError) as error:
        raise RunError(f"{METRICS} cannot be read: {error}") from error


def _begun(run: RunFiles, spec: Wandb) -> WandbRun | None:
    config = dataclasses.replace(run.config, overwrite=True)
    identity = run.provenance.get("identity")
    if not isinstance(identity, str):
        raise RunError(f"{PROVENANCE} has no identity")
    code = run.provenance.get("code")
    run_id = f"{identity[:8]}{code['hash'][:8]}" if isinstance(code, dict) else identity
    try:
        return spec.make(config, run.folder, run_id)
    except (AttributeError, KeyError, TypeError) as error:
        # Whatever W&B raises when it starts is told by the logger; this is about the config.
        raise RunError(f"the run's config is not as expected: {error!r}") from error
