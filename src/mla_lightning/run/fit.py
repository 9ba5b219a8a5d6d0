"""The training of one job from the newest valid checkpoint, on one process or on all ranks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import Callback

from mla_lightning import run_folder as files
from mla_lightning.callbacks.checkpoint import RunCheckpoint, choose_checkpoint
from mla_lightning.callbacks.diagnostics import EpochDiagnostics
from mla_lightning.callbacks.epoch_table import EpochTable
from mla_lightning.callbacks.pruning import StopBelow
from mla_lightning.callbacks.shared_stage import shared_stage
from mla_lightning.callbacks.signals import StopOnSignal, StopSignals
from mla_lightning.config import Job
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.loggers.build import build_loggers
from mla_lightning.module import MultimodalModule
from mla_lightning.run.build import build_callbacks, build_data, build_metrics, build_module
from mla_lightning.run.diagnose import build_epoch_diagnostics
from mla_lightning.run.explain import errors_explained, errors_placed
from mla_lightning.run.measure import TrainedJob
from mla_lightning.run.preflight import check_last_batch
from mla_lightning.run.rank_group import RankGroup
from mla_lightning.run.record import peak_memory_mb
from mla_lightning.run.teachers import with_teachers
from mla_lightning.run.trainer import build_trainer, silence_lightning


def prepare_process(job: Job) -> None:
    """Set what holds for this whole process: Lightning's advice is hidden, torch has its threads.

    Args:
        job: The job.
    """
    silence_lightning()
    torch.set_num_threads(job.config.trainer.threads)


def data_of_job(job: Job) -> MultimodalDataModule:
    """Build and set up the data of a job.

    Args:
        job: The job.

    Raises:
        DataError: If they are missing or damaged.
    """
    with errors_placed("the reading of the data"):
        return build_data(job.config)


def module_of_job(job: Job, data: MultimodalDataModule) -> MultimodalModule:
    """Build the method of a job with its initial weights.

    Args:
        job: The job.
        data: Its data, set up.

    Raises:
        ConfigError: If a setting does not fit the data.
    """
    with errors_placed("the construction of the model"):
        module = with_teachers(build_module(job.config, data), job, data)
        check_last_batch(module, data)
    return module


def fit(
    job: Job,
    data: MultimodalDataModule,
    module: MultimodalModule,
    loggers: list[Any],
    signals: StopSignals,
    group: RankGroup | None,
) -> TrainedJob:
    """Train from the newest valid checkpoint, or from the start.

    Args:
        job: The job.
        data: Its data, set up.
        module: Its method.
        loggers: The loggers are appended here, by the first rank.
        signals: Signals that end training with a checkpoint.
        group: The ranks that train together; None for one process.

    Returns:
        The job after training, to be evaluated.
    """
    config, run_dir = job.config, job.run_dir
    is_first = group is None or group.is_first
    folder = run_dir / files.CHECKPOINTS
    options = config.checkpoint
    checkpoint = RunCheckpoint(folder, every_n_batches=options.every_n_batches, keep=options.keep)
    if is_first:
        folder.mkdir(exist_ok=True)
        loggers += build_loggers(config, run_dir, job.run_id)
    callbacks: list[Callback] = build_callbacks(config)
    diagnostics: EpochDiagnostics | None = None
    if config.diagnostics != "off":
        diagnostics = build_epoch_diagnostics(config.diagnostics, data)
        callbacks.append(diagnostics)
    stage = shared_stage(config, job.stage_id, module, checkpoint)
    if stage is not None:
        callbacks.append(stage)

    def choose() -> str | None:
        newest, messages = choose_checkpoint(folder)
        for message in messages:
            print(f"{job.title}: {message}")
        newest = newest or (stage.start() if stage is not None else None)
        return None if newest is None else str(newest)

    newest = choose() if group is None else group.share("checkpoint", choose)
    table = EpochTable(run_dir)
    callbacks += [StopOnSignal(checkpoint, signals), table]
    if job.floor:
        callbacks.append(StopBelow(job.floor, checkpoint))
    trainer = build_trainer(config, run_dir, checkpoint, loggers, callbacks, group)
    selection = data.loader("test" if config.protocol == "paper" else "val", is_shared=True)
    loaders = data.train_dataloader(), selection
    with errors_explained(trainer):
        trainer.fit(module, *loaders, ckpt_path=newest, weights_only=True)
    signals.raise_if_received()
    table.check(trainer.current_epoch)
    return TrainedJob(
        job,
        trainer,
        module,
        data,
        checkpoint,
        build_metrics(config),
        peak_memory_mb(trainer.strategy.root_device),  # before evaluation adds to it
        trainer.global_step,
        diagnostics,
    )


def evaluated_alone(trained: TrainedJob, signals: StopSignals) -> TrainedJob:
    """Return a job that ranks have trained together, to be evaluated by this process alone.

    Args:
        trained: The job after training.
        signals: Signals that end the evaluation.
    """
    stop = StopOnSignal(trained.checkpoint, signals)
    job = trained.job
    trainer = build_trainer(job.config, job.run_dir, trained.checkpoint, [], [stop])
    return replace(trained, trainer=trainer)
