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
from mla_lightning.callbacks.checkpoint import RunCheckpoint, choose_checkpoint
from mla_lightning.callbacks.checkpoint_io import CheckedCheckpointIO
from mla_lightning.callbacks.diagnostics import EpochDiagnostics
from mla_lightning.callbacks.epoch_table import EpochTable
from mla_lightning.callbacks.pruning import StopBelow
from mla_lightning.callbacks.shared_stage import shared_stage
from mla_lightning.callbacks.signals import StopOnSignal, StopRequested, StopSignals
from mla_lightning.config import Job, schedule_note
from mla_lightning.config.secrets import mask_secrets
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.errors import ConfigError, Interrupted, MLAError, Pruned, RunError, reason_of
from mla_lightning.loggers.build import build_loggers, finish_loggers
from mla_lightning.module import MultimodalModule
from mla_lightning.run.allocator import keep_freed_memory
from mla_lightning.run.build import build_data, build_metrics, build_module
from mla_lightning.run.diagnose import build_epoch_diagnostics
from mla_lightning.run.epoch_loop import EpochLoop, NoProfiler
from mla_lightning.run.explain import describe_unknown, errors_explained, errors_placed
from mla_lightning.run.measure import TrainedJob, measure, write_measurements
from mla_lightning.run.one_process import OneProcess
from mla_lightning.run.preflight import check_counted_samples, check_last_batch
from mla_lightning.run.record import (
    StatusFile,
    check_code_is_current,
    check_unfinished_run,
    describe_finished_run,
    peak_memory_mb,
    provenance_of,
    set_aside_finished_run,
)
from mla_lightning.run_folder import State
from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.completion import remove_replaced
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_folder.contents import check_run_folder
from mla_lightning.run_folder.lock import RunLock, remove_temporaries
from mla_lightning.run_folder.majority import find_majority
from mla_lightning.run_folder.tasks import PRIMARY


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
    except Pruned as error:
        print(f"{job.title}: {error}")
        return error.exit_code
    except (MLAError, OSError) as error:
        print(f"error: {mask_secrets(reason_of(error))}", file=sys.stderr)
        return error.exit_code if isinstance(error, MLAError) else RunError.exit_code
    except Exception as error:  # no error of a job may end a sweep
        print(f"error: {mask_secrets(f'{type(error).__name__}: {error}')}", file=sys.stderr)
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
        Pruned: If it fell below the floor of its search; likewise.
    """
    with files.not_world_writable():
        overwrite = job.config.overwrite
        check_run_folder(job.run_dir, overwrite=overwrite)
        try:
            if not overwrite and (reason := describe_finished_run(job)):
                remove_temporaries(job.run_dir)
                return reason  # without the lock: the disk may be read-only
            if not job.run_dir.exists():
                check_counted_samples(job.config)
            job.run_dir.mkdir(parents=True, exist_ok=True)
            with RunLock(job.run_dir):
                remove_temporaries(job.run_dir / files.CHECKPOINTS, is_owner=True)
                set_aside_finished_run(job)
                return describe_finished_run(job) or _run_locked(job)
        except OSError as error:
            reason = error.strerror or str(error)
            place = "" if error.filename in (None, str(job.run_dir)) else f" ({error.filename})"
            raise RunError(
                f"{job.run_dir} cannot be used: {reason}{place}. Choose another place: "
                "paths.output_dir=FOLDER"
            ) from error


def _run_locked(job: Job) -> str:
    """Run a job whose folder is locked by this process, and write its final state."""
    with StopSignals() as signals:
        status = StatusFile(job)
        loggers: list[Any] = []
        code = RunError.exit_code  # unless another exit code is known below
        try:
            try:
                later = {k: v for k, v in job.code.modules.items() if k not in sys.modules}
                check_code_is_current(job, later)  # modules that are not imported yet
                note = check_unfinished_run(job)
                status.write(State.RUNNING)
                summary = _train_and_measure(job, loggers, signals, note)
            finally:
                signals.is_deferred = True  # the state is recorded below
            status.write(State.FINISHED, exit_code=0)
            remove_replaced(job.run_dir)
            code = 0
            return summary
        except KeyboardInterrupt as error:
            code = Interrupted.exit_code
            message = "Interrupted; run the same command again."
            status.fail(State.INTERRUPTED, code, message)
            raise Interrupted(message) from error
        except Pruned as error:
            code = 0  # for loggers: it is no failure
            status.write(State.PRUNED, error.exit_code, str(error))
            raise
        except MLAError as error:
            code = error.exit_code
            status.fail(State.of_exit_code(code), code, str(error))
            raise
        except (Exception, SystemExit, StopRequested) as error:  # also sys.exit() of user code
            if signals.received is not None:  # the signal may have ended a loader worker as well
                stop = signals.error()
                code = stop.exit_code
                status.fail(State.of_exit_code(code), code, str(stop))
                raise stop from error
            reason = _describe(error, job.config.tree["data"].get("num_workers"))
            is_written = status.fail(State.FAILED, code, reason)
            place = f" The traceback is in {job.run_dir / files.ERROR}." if is_written else ""
            raise RunError(
                f"{reason.rstrip('.')}.{place} To run it again when the cause is mended: "
                f"{files.retry_command(job.overrides)}"
            ) from error
        finally:
            finish_loggers(loggers, code)


def _describe(error: BaseException, num_workers: int | None) -> str:
    """Return the reason of a failure that is no error of this package."""
    text = str(error).strip().rstrip(".")
    is_named = isinstance(error, RuntimeError) and text.startswith("DataLoader worker")
    if is_named or (num_workers and isinstance(error, ConnectionError | EOFError)):
        detail = f" ({text})" if text else ""
        return (
            f"A loader worker was killed{detail}, perhaps because memory was full. Run the same "
            "command again to resume; a smaller data.num_workers needs less memory."
        )
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{reason_of(error)}. When that is mended, run the same command again to resume."
    return describe_unknown(error)


def _train_and_measure(job: Job, loggers: list[Any], signals: StopSignals, note: str) -> str:
    """Train and evaluate a job, write its files, and return a line of text with its score."""
    config, run_dir = job.config, job.run_dir
    silence_lightning()
    torch.set_num_threads(config.trainer.threads)
    files.write_text(run_dir / files.CONFIG, yaml.safe_dump(config.tree, sort_keys=False))
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    with errors_placed("the reading of the data"):
        data = build_data(config)
    provenance = provenance_of(job, data, started)
    files.write_json(run_dir / files.PROVENANCE, provenance)
    if data.missing:
        data.write_masks(Path(config.paths.output_dir) / "masks")
    with errors_placed("the construction of the model"):
        module = build_module(config, data)
        check_last_batch(module, data)
    if note:
        module.notes.add(note)
    with errors_placed("training"):
        trained = _train(job, data, module, loggers, signals)
    if text := schedule_note(config.tree):
        module.notes.add(text)
    with errors_placed("evaluation"):
        measurements = measure(trained)
    provenance["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    files.write_json(run_dir / files.PROVENANCE, provenance)
    with errors_placed("the writing of the result"):
        result = write_measurements(trained, measurements)  # with hashes of all other files
    for text in result.notes:
        print(f"{job.title}: note: {text}", file=sys.stderr)
    primary = PRIMARY[result.task]
    value = primary.text((result.val or {})[MULTI][primary.metric])
    majority = find_majority(provenance["data"])
    remarks = [majority.val_text] if majority else []
    remark = ", ".join(filter(None, (*remarks, f"best epoch {result.best_epoch}")))
    return f"val/{primary.column} {value} ({remark}), {result.train_time_s:.1f} s"


def _train(
    job: Job,
    data: MultimodalDataModule,
    module: MultimodalModule,
    loggers: list[Any],
    signals: StopSignals,
) -> TrainedJob:
    """Train from the newest valid checkpoint, or from the start."""
    config, run_dir = job.config, job.run_dir
    folder = run_dir / files.CHECKPOINTS
    folder.mkdir(exist_ok=True)
    options = config.checkpoint
    checkpoint = RunCheckpoint(folder, every_n_batches=options.every_n_batches, keep=options.keep)
    newest, messages = choose_checkpoint(folder)
    for message in messages:
        print(f"{job.title}: {message}")
    loggers += build_loggers(config, run_dir, job.run_id)
    callbacks: list[Callback] = []
    diagnostics: EpochDiagnostics | None = None
    if config.diagnostics != "off":
        diagnostics = build_epoch_diagnostics(config.diagnostics, data)
        callbacks.append(diagnostics)
    stage = shared_stage(config, job.stage_id, module, checkpoint)
    if stage is not None:
        newest = newest or stage.start()
        callbacks.append(stage)
    table = EpochTable(run_dir)
    callbacks += [StopOnSignal(checkpoint, signals), table]
    if job.floor:
        callbacks.append(StopBelow(job.floor, checkpoint))
    trainer = build_trainer(config, run_dir, checkpoint, loggers, callbacks)
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
        diagnostics.uncounted if diagnostics is not None else (),
    )


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
        callbacks: Callbacks before that one.

    Returns:
        The Trainer.

    Raises:
        ConfigError: If this machine has no such accelerator, or it has no such precision.
    """
    options = config.trainer
    try:
        trainer = Trainer(
            max_epochs=options.num_epochs,
            accelerator=options.accelerator,
            devices=1,
            precision=options.precision,
            deterministic=options.deterministic,
            callbacks=[*callbacks, checkpoint],
            plugins=[CheckedCheckpointIO(), OneProcess()],
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
        ".*`srun` command is available.*",  # asked by Lightning although the environment is given
        ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning 2.6.6 with torch 2.13
    ):
        warnings.filterwarnings("ignore", text)
