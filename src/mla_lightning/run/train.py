"""Training and evaluation of one job, from its config to its run folder."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer

from mla_lightning import run_folder as files
from mla_lightning.callbacks.checkpoint import RunCheckpoint, newest_valid
from mla_lightning.callbacks.checkpoint_io import CheckedCheckpointIO
from mla_lightning.callbacks.diagnostics import EpochDiagnostics
from mla_lightning.callbacks.epoch_table import EpochTable
from mla_lightning.callbacks.shared_stage import shared_stage
from mla_lightning.callbacks.signals import StopOnSignal
from mla_lightning.config import Job
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.errors import ConfigError, Interrupted, MLAError, RunError
from mla_lightning.loggers.build import build_loggers, finish_loggers
from mla_lightning.module import MultimodalModule
from mla_lightning.run.allocator import keep_freed_memory
from mla_lightning.run.build import build_data, build_metrics, build_module
from mla_lightning.run.diagnose import build_epoch_diagnostics
from mla_lightning.run.epoch_loop import EpochLoop, NoProfiler
from mla_lightning.run.measure import TrainedJob, measure, write_measurements
from mla_lightning.run.record import (
    StatusFile,
    check_code_is_current,
    check_finished_run,
    check_run_folder,
    check_unfinished_run,
    peak_memory_mb,
    provenance_of,
    remove_run,
)
from mla_lightning.run_folder import State
from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_lock import RunLock


def run_job(job: Job) -> int:
    """Train and evaluate one job, or resume an earlier attempt.

    Failures are written to the run folder and printed, never raised.

    Args:
        job: The job; all its files are written to its run folder.

    Returns:
        The exit code: 0 finished, 1 failed, 2 wrong config, 3 missing or damaged data, 130
        interrupted, 143 preempted.
    """
    keep_freed_memory()  # not in train_job, which Python programs call in a process of their own
    try:
        print(f"{job.title}: {train_job(job)}")
    except (MLAError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, MLAError) else RunError.exit_code
    except Exception as error:  # no error of a job may end a sweep
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return RunError.exit_code
    return 0


def train_job(job: Job) -> str:
    """Train and evaluate one job as :func:`run_job` does, but raise errors.

    Args:
        job: The job.

    Returns:
        A line of text with validation accuracy and time, or why the job did not need to run.

    Raises:
        ConfigError: If a setting is wrong, or the folder holds another job.
        DataError: If the data are missing or damaged.
        RunError: If training failed, from the error that ended it, or the folder cannot be used.
        Interrupted: If the user stopped it; the next call resumes from its checkpoint.
    """
    with files.not_world_writable():
        check_run_folder(job.run_dir)
        try:
            job.run_dir.mkdir(parents=True, exist_ok=True)
            with RunLock(job.run_dir):
                if job.config.overwrite:
                    remove_run(job.run_dir)
                return check_finished_run(job) or _run_locked(job)
        except OSError as error:
            raise RunError(f"{job.run_dir} cannot be used: {error}") from error


def _run_locked(job: Job) -> str:
    """Run a job whose folder is locked by this process, and write its final state."""
    status = StatusFile(job)
    loggers: list[Any] = []
    code = RunError.exit_code  # unless another exit code is known below
    try:
        later = {k: v for k, v in job.code.modules.items() if k not in sys.modules}
        check_code_is_current(job, later)  # modules that this process has not imported yet
        note = check_unfinished_run(job)
        status.write(State.RUNNING)
        summary = _train_and_measure(job, loggers, note)
        status.write(State.FINISHED, exit_code=0)
        code = 0
        return summary
    except KeyboardInterrupt as error:
        code = Interrupted.exit_code
        message = "Interrupted; run the same command again."
        status.fail(State.INTERRUPTED, code, message)
        raise Interrupted(message) from error
    except MLAError as error:
        code = error.exit_code
        status.fail(State.of_exit_code(code), code, str(error))
        raise
    except (Exception, SystemExit) as error:  # also sys.exit() in code of the user
        reason = f"{type(error).__name__}: {error}"
        status.fail(State.FAILED, code, reason)
        raise RunError(f"{reason} (run folder: {job.run_dir})") from error
    finally:
        finish_loggers(loggers, code)


def _train_and_measure(job: Job, loggers: list[Any], note: str) -> str:
    """Train and evaluate a job, write its files, and return a line of text with its score."""
    config, run_dir = job.config, job.run_dir
    silence_lightning()
    torch.set_num_threads(config.trainer.threads)
    files.write_text(run_dir / files.CONFIG, yaml.safe_dump(config.tree, sort_keys=False))
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    data = build_data(config)
    provenance = provenance_of(job, data, started)
    files.write_json(run_dir / files.PROVENANCE, provenance)
    if data.missing:
        data.write_masks(Path(config.paths.output_dir) / "masks")
    module = build_module(config, data)
    if note:
        module.notes.add(note)
    trained = _train(job, data, module, loggers)
    result = write_measurements(trained, measure(trained))
    for text in result.notes:
        print(f"{job.title}: note: {text}", file=sys.stderr)
    provenance["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    files.write_json(run_dir / files.PROVENANCE, provenance)
    accuracy = (result.val or {})[MULTI]["accuracy"]
    best = f"best epoch {result.best_epoch}"
    return f"val/acc {accuracy:.3f} ({best}), {result.train_time_s:.1f} s"


def _train(
    job: Job, data: MultimodalDataModule, module: MultimodalModule, loggers: list[Any]
) -> TrainedJob:
    """Train from the newest valid checkpoint, or from the start."""
    config, run_dir = job.config, job.run_dir
    folder = run_dir / files.CHECKPOINTS
    folder.mkdir(exist_ok=True)
    options = config.checkpoint
    checkpoint = RunCheckpoint(folder, every_n_batches=options.every_n_batches, keep=options.keep)
    newest = _newest_checkpoint(folder)
    loggers += build_loggers(config, run_dir, job.run_id)
    callbacks: list[Callback] = []
    diagnostics: EpochDiagnostics | None = None
    if config.diagnostics != "off":
        diagnostics = build_epoch_diagnostics(config.diagnostics, data)
        callbacks.append(diagnostics)
    stage = shared_stage(config, job.stage_id, module, checkpoint)
    if stage is not None:
        newest = newest or stage.start(run_dir)
        callbacks.append(stage)
    trainer = build_trainer(config, run_dir, checkpoint, loggers, callbacks)
    selection = data.loader("test" if config.protocol == "paper" else "val")
    trainer.fit(module, data.train_dataloader(), selection, ckpt_path=newest, weights_only=True)
    return TrainedJob(
        job,
        trainer,
        module,
        data,
        checkpoint,
        build_metrics(config),
        peak_memory_mb(trainer.strategy.root_device),  # before evaluation adds to it
        diagnostics.uncounted if diagnostics is not None else (),
    )


def _newest_checkpoint(folder: Path) -> Path | None:
    newest, broken = newest_valid(folder)
    for path in broken:
        print(f"checkpoint {path.name} is broken; resuming from {newest.name if newest else '-'}")
    return newest


def build_trainer(
    config: RunConfig,
    run_dir: Path,
    checkpoint: RunCheckpoint,
    loggers: list[Any],
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    """Build the Trainer of a config.

    Args:
        config: The resolved config.
        run_dir: The run folder.
        checkpoint: The callback that writes checkpoints.
        loggers: Lightning loggers, which may be none.
        callbacks: Additional callbacks.

    Returns:
        The Trainer.

    Raises:
        ConfigError: If this machine has no such accelerator, or it has no such precision.
    """
    options = config.trainer
    try:
        trainer = Trainer(
            max_epochs=options.max_epochs,
            accelerator=options.accelerator,
            devices=1,
            precision=options.precision,
            deterministic=options.deterministic,
            callbacks=[*callbacks, StopOnSignal(checkpoint), EpochTable(run_dir), checkpoint],
            plugins=[CheckedCheckpointIO()],
            logger=loggers or False,
            log_every_n_steps=options.log_every_n_batches,
            enable_progress_bar=options.progress_bar and sys.stdout.isatty(),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=run_dir,
            profiler=NoProfiler(),
        )
    except MisconfigurationException as error:
        raise ConfigError(
            f"trainer.accelerator={options.accelerator} with trainer.precision={options.precision} "
            f"cannot be used on this machine: {error}"
        ) from error
    trainer.fit_loop.epoch_loop = EpochLoop(trainer)
    return trainer


def silence_lightning() -> None:
    """Hide Lightning's advice that does not apply here, such as more loader workers."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for text in (
        ".*does not have many workers.*",
        ".*is smaller than the logging interval.*",
        ".*in eval mode at the start of training.*",  # frozen encoders are meant to be
        ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning 2.6.6 with torch 2.13
    ):
        warnings.filterwarnings("ignore", text)
