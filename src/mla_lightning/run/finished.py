"""Finished runs: evaluate them again, and use their models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from mla_lightning import run_folder as files
from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.callbacks.checkpoint_io import read_checkpoint
from mla_lightning.errors import ConfigError, RunError, near
from mla_lightning.module import MultimodalModule
from mla_lightning.run.build import build_data, build_metrics, build_module
from mla_lightning.run.evaluate import predict, scores_of
from mla_lightning.run.train import build_trainer, silence_lightning
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.result import Scores


def finished_run(run_dir: Path) -> RunFiles:
    """Return the files of a finished run.

    Args:
        run_dir: The run folder.

    Raises:
        RunError: If there is no finished run.
    """
    if not (run_dir / files.CONFIG).is_file():
        raise RunError(
            f"{run_dir} is no run folder: it has no {files.CONFIG}. See mla report runs."
        )
    if not files.is_finished(run_dir):
        raise RunError(
            f"{run_dir} is not finished (state: {files.state_of(run_dir)}). "
            f"Run `mla train` with its overrides again to finish it."
        )
    return RunFiles(run_dir)


def evaluate_run(run_dir: Path, split: str, eval_batch_size: int | None = None) -> Scores:
    """Evaluate a run's selected weights on a split once more.

    Args:
        run_dir: The run folder.
        split: ``train``, ``val`` or ``test``.
        eval_batch_size: Samples per batch, None for the run's own; it changes no number.

    Returns:
        Reported modality -> metrics, None for a modality that no sample of the split has.

    Raises:
        RunError: If there is no finished run.
        ConfigError: If there is no such split.
    """
    config = finished_run(run_dir).config
    if eval_batch_size is not None:
        config = with_data(config, eval_batch_size=eval_batch_size)
    data = build_data(config)
    if split not in data.splits:
        raise ConfigError(
            f"Unknown split {split!r}.{near(split, data.splits)} Known: {list(data.splits)}"
        )
    silence_lightning()
    torch.set_num_threads(config.trainer.threads)
    module = build_module(config, data)
    checkpoint = selected_weights(run_dir, module)
    trainer = build_trainer(config, run_dir, checkpoint, [])
    predictions = predict(trainer, module, data.loader(split), checkpoint)
    return scores_of(predictions, build_metrics(config))


def selected_weights(run_dir: Path, module: MultimodalModule) -> RunCheckpoint:
    """Return where the weights are that were selected for each modality of a run."""
    checkpoint = RunCheckpoint(run_dir / files.CHECKPOINTS)
    for metric in module.selections().values():
        epoch = read_checkpoint(checkpoint.best_path(metric))["epoch"]
        checkpoint.best[metric] = (math.nan, epoch)
    return checkpoint


def with_data(config: RunConfig, **options: Any) -> RunConfig:
    """Return a config with other options of its data."""
    return RunConfig.from_tree({**config.tree, "data": {**config.data, **options}})
