"""Teachers from a finished run of unimodal training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mla_lightning import run_folder as files
from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.callbacks.checkpoint_io import read_checkpoint
from mla_lightning.config import Job
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.errors import ConfigError
from mla_lightning.module import MultimodalModule
from mla_lightning.run.finished import finished_run
from mla_lightning.run_folder.columns import EPOCH, validation
from mla_lightning.run_folder.reader import RunFiles

#: The method whose models are teachers.
_UNIMODAL = "unimodal"
#: Settings of the config that must be those of the teachers' run, besides the data's.
_SAME = ("seed", "encoder", "missing", "select_by", "loss", "task")


def with_teachers(
    module: MultimodalModule, job: Job, data: MultimodalDataModule
) -> MultimodalModule:
    """Load the teachers that ``method.teachers`` names, if it does, into a job's module.

    Args:
        module: The module.
        job: The job.
        data: Its data, set up.

    Returns:
        The module.

    Raises:
        ConfigError: If the folder's run is of another method, or of other data, split, encoders or
            seed, with the command that trains the teachers.
        RunError: If the folder holds no finished run, or its weights are damaged.

    Example:
        >>> teachers = mla.train("data=synthetic", "method=unimodal", folder=tmp / "unimodal")
        >>> words = ("data=synthetic", "method=umt", "optimizer.lr=0.05")
        >>> run = mla.train(*words, f"method.teachers='{teachers.folder}'", folder=tmp / "umt")
        >>> run.result.train_time_s > teachers.result.train_time_s  # which is a part of it
        True
    """
    taught: Any = module
    if not (given := job.config.method.get("teachers")):
        return module
    folder = Path(given)
    run = finished_run(folder)
    if problems := _differences(run, job, data):
        own = [w for w in job.overrides if not w.lstrip("+~").startswith(("method=", "method."))]
        raise ConfigError(
            f"method.teachers={folder} cannot teach this run: {'; '.join(problems)}. To train its "
            f"teachers: {files.retry_command([*own, f'method={_UNIMODAL}'])}"
        )
    checkpoint, column = RunCheckpoint(folder / files.CHECKPOINTS), module.parts.selection.column
    scores = {int(row[EPOCH]): row for row in run.metrics}
    teachers = {}
    for name in module.modalities:
        content = read_checkpoint(checkpoint.best_path(f"{column}/{name}"))
        state, epoch = content["state_dict"], int(content["epoch"])
        encoder = _part(state, f"encoders.{name}.")
        head = _part(state, f"fusion.heads.{name}.")
        teachers[name] = encoder, head, scores[epoch][validation(column, name)], epoch
    taught.take_teachers(teachers)
    result = run.result
    assert result is not None
    module.earlier_train_s = result.train_time_s
    module.notes.add(
        f"Its teachers were trained by run {result.identity[:8]} in {result.epochs} epochs and "
        f"{result.train_time_s:.1f} s, which count as training time of this run."
    )
    return module


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _differences(run: RunFiles, job: Job, data: MultimodalDataModule) -> list[str]:
    """Return in words what of a run is not as teachers of a job must be."""
    method = run.tree["choices"]["method"]
    if method != _UNIMODAL:
        return [f"it is a run of method={method}"]
    own, other = job.config.tree, run.tree
    problems = []
    if number := other["trainer"].get("snapshots"):
        problems.append(
            f"it is an ensemble of trainer.snapshots={number}, and a teacher is one model"
        )
    for key in _SAME:
        if (value := other.get(key)) != own[key]:
            is_short = not isinstance(own[key], Mapping)
            text = f"is {value!r}, not {own[key]!r}" if is_short else "differs"
            problems.append(f"its {key} {text}")
    if run.provenance.get("data_fingerprint") != job.data_fingerprint:
        problems.append("it was trained on other data")
    elif run.provenance.get("data") != json.loads(json.dumps(data.describe())):
        problems.append("its split or its modalities are others")
    return problems
