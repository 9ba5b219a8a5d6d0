"""One job: config in, run folder out. The only place that builds a Trainer."""

from __future__ import annotations

import logging
import math
import sys
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lightning.pytorch import Callback, Trainer

from mla_lightning import run_folder as files
from mla_lightning.callbacks.checkpoint import RunCheckpoint, newest_valid
from mla_lightning.callbacks.checkpoint_io import CheckedCheckpointIO, read_checkpoint
from mla_lightning.callbacks.epoch_table import EpochTable
from mla_lightning.callbacks.shared_stage import shared_stage
from mla_lightning.callbacks.signals import StopOnSignal
from mla_lightning.config import Job
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.errors import ConfigError, Interrupted, MLAError, RunError, near
from mla_lightning.identity import code_fingerprint
from mla_lightning.loggers.build import build_loggers, finish_loggers
from mla_lightning.module import MultimodalModule
from mla_lightning.run.build import build_data, build_module
from mla_lightning.run.diagnose import diagnose, epoch_diagnostics, write_arrays
from mla_lightning.run.evaluate import evaluate, missing_of, probe, scores_of
from mla_lightning.run.record import (
    Status,
    already_finished,
    empty,
    peak_memory_mb,
    provenance_of,
    refuse_another_identity,
    write_predictions,
)
from mla_lightning.run_folder import State
from mla_lightning.run_lock import RunLock


def run_job(job: Job) -> int:
    """Train and evaluate one job, or go on where an earlier attempt stopped.

    Args:
        job: The job; everything it writes goes to its run folder.

    Returns:
        The exit code: 0 finished, 1 failed, 2 bad config, 3 bad data, 130 interrupted, 143
        preempted. Failures are written to the run folder and printed, never raised.
    """
    run_dir = job.run_dir
    with files.not_world_writable():
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            with RunLock(run_dir):
                return _run_alone(job)
        except (MLAError, OSError) as error:  # not ours to write in: leave its status alone
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code if isinstance(error, MLAError) else RunError.exit_code


def _run_alone(job: Job) -> int:
    """Run a job whose folder is ours, and write how it ended."""
    if job.config.get("overwrite"):
        empty(job.run_dir)
    if files.is_finished(job.run_dir):
        return already_finished(job)
    status = Status(job)
    loggers: list[Any] = []
    code = RunError.exit_code  # whatever ends this without a word has failed
    try:
        refuse_another_identity(job)
        status.write(State.RUNNING)
        _run(job, loggers)
        status.write(State.FINISHED, exit_code=0)
        code = 0
    except KeyboardInterrupt:
        code = Interrupted.exit_code
        status.fail(State.INTERRUPTED, code, "Interrupted; run the same command again.")
    except MLAError as error:
        code = error.exit_code
        status.fail(State.of_exit_code(code), code, str(error))
    except Exception as error:  # a job reports its own failure, whatever it is
        status.fail(State.FAILED, code, f"{type(error).__name__}: {error}")
    finally:
        finish_loggers(loggers, code)
    return code


def build_trainer(
    config: Mapping[str, Any],
    run_dir: Path,
    checkpoint: RunCheckpoint,
    loggers: list[Any],
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    """Build the Trainer of a config.

    Args:
        config: The resolved config.
        run_dir: The run folder.
        checkpoint: Decides when checkpoints are written.
        loggers: Lightning loggers; may be empty.
        callbacks: Further callbacks.

    Returns:
        The Trainer.
    """
    options = config["trainer"]
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return Trainer(
        max_epochs=options["max_epochs"],
        accelerator=options["accelerator"],
        devices=1,
        precision=options["precision"],
        deterministic=options["deterministic"],
        callbacks=[*callbacks, StopOnSignal(checkpoint), EpochTable(run_dir), checkpoint],
        plugins=[CheckedCheckpointIO()],
        logger=loggers or False,
        log_every_n_steps=options["log_every_n_batches"],
        enable_progress_bar=options["progress_bar"] and sys.stdout.isatty(),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=run_dir,
    )


def evaluate_run(
    run_dir: Path, split: str, eval_batch_size: int | None = None
) -> dict[str, dict[str, float | None]]:
    """Evaluate a run's selected weights on a split once more.

    Args:
        run_dir: The run folder.
        split: ``train``, ``val`` or ``test``.
        eval_batch_size: Samples per batch, None for the run's own; it changes no number.

    Returns:
        Reported modality -> metrics, None for a modality that no sample of the split has.

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
    config = yaml.safe_load((run_dir / files.CONFIG).read_text(encoding="utf-8"))
    if eval_batch_size is not None:
        config["data"]["eval_batch_size"] = eval_batch_size
    data = build_data(config)
    if split not in data.splits:
        raise ConfigError(
            f"Unknown split {split!r}.{near(split, data.splits)} Known: {list(data.splits)}"
        )
    _silence_lightning()
    torch.set_num_threads(config["trainer"]["threads"])
    module = build_module(config, data)
    checkpoint = RunCheckpoint(run_dir / files.CHECKPOINTS)
    for metric in module.selections().values():
        epoch = read_checkpoint(checkpoint.best_path(metric))["epoch"]
        checkpoint.best[metric] = (math.nan, epoch)
    trainer = build_trainer(config, run_dir, checkpoint, [])
    return scores_of(evaluate(trainer, module, data.loader(split), checkpoint))


def _run(job: Job, loggers: list[Any]) -> None:
    config, run_dir = job.config, job.run_dir
    _silence_lightning()
    torch.set_num_threads(config["trainer"]["threads"])
    files.write_text(run_dir / files.CONFIG, yaml.safe_dump(config, sort_keys=False))
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    provenance = provenance_of(job, data := build_data(config), started)
    files.write_json(run_dir / files.PROVENANCE, provenance)
    if data.missing:
        data.write_masks(Path(config["paths"]["output_dir"]) / "masks")
    module = build_module(config, data)
    folder = run_dir / files.CHECKPOINTS
    folder.mkdir(exist_ok=True)
    checkpoint = RunCheckpoint(folder, **config["checkpoint"])
    newest, broken = newest_valid(folder)
    for path in broken:
        print(f"checkpoint {path.name} is broken; going on from {newest.name if newest else '-'}")
    loggers += build_loggers(config, run_dir, job.identity)
    mode = config["diagnostics"]
    watching = [epoch_diagnostics(mode, data)] if mode != "off" else []
    stage = shared_stage(config, data.fingerprint, module, checkpoint)
    if stage is not None:
        newest = newest or stage.start(run_dir)
    also = [*watching, *([stage] if stage is not None else [])]
    trainer = build_trainer(config, run_dir, checkpoint, loggers, also)
    selection = data.loader("test" if config["protocol"] == "paper" else "val")
    trainer.fit(module, data.train_dataloader(), selection, ckpt_path=newest, weights_only=True)
    peak_mb = peak_memory_mb(trainer.strategy.root_device)  # before probes and pictures
    trainer.fit_loop.epoch_loop.val_loop._results.clear()
    uncounted = watching[0].uncounted if watching else set()
    _write_result(job, trainer, module, data, checkpoint, peak_mb, uncounted)
    provenance["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    files.write_json(run_dir / files.PROVENANCE, provenance)


def _write_result(
    job: Job,
    trainer: Trainer,
    module: MultimodalModule,
    data: MultimodalDataModule,
    checkpoint: RunCheckpoint,
    peak_mb: float,
    uncounted: Collection[str],
) -> None:
    config, run_dir = job.config, job.run_dir
    scores: dict[str, Any] = {"val": None, "test": None}
    splits = ("val", "test") if config["evaluate_test"] else ("val",)
    probed = ("train", *splits) if config["evaluate_probe"] else ()
    diagnosed = splits if config["diagnostics"] != "off" else ()
    featured = {*probed, *diagnosed}
    found = {
        split: evaluate(trainer, module, data.loader(split), checkpoint, features=split in featured)
        for split in dict.fromkeys((*splits, *probed))
    }
    for split in splits:
        scores[split] = scores_of(found[split])
    probed_accuracy = probe(found, data.num_classes) if probed else None
    if "test" in found:
        answers = found["test"]
        write_predictions(run_dir, *answers.predictions, data.class_names, answers.present)
    if diagnosed:
        forward = trainer.precision_plugin.forward_context
        mode = config["diagnostics"]
        numbers, arrays = diagnose(module, data, found, mode, uncounted, forward)
        files.write_json(run_dir / files.DIAGNOSTICS, numbers)
        write_arrays(run_dir / files.PLANES, arrays)
    rows = files.read_metrics(run_dir)
    times = [row["time/epoch_s"] for row in rows]
    about = data.describe()
    choices = config["choices"]
    result = {
        "schema": 1,
        "identity": job.identity,
        "name": config["name"],
        "dataset": data.name,
        "method": choices["method"],
        "ablation": choices["ablation"],
        "seed": config["seed"],
        "protocol": config["protocol"],
        "split": about["split"],
        **{f"num_{split}": len(data.splits[split]) for split in ("train", "val", "test")},
        "modalities": list(module.modalities),
        "unimodal_rule": module.fusion.unimodal_rule,
        "lr": config["optimizer"].get("lr"),
        "epochs": len(times),
        "best_epoch": max(epoch for _, epoch in checkpoint.best.values()),
        **scores,
        "probe_accuracy": probed_accuracy,
        "notes": sorted(module.notes),
        "missing": missing_of(data, found) if data.missing else None,
        "train_time_s": sum(times),
        "epoch_time_s": float(np.median(times)),
        "step_time_s": float(np.median([row["time/step_s"] for row in rows])),
        "peak_memory_mb": peak_mb,
        "num_parameters": sum(p.numel() for p in module.parameters()),
        "num_batches_trained": trainer.global_step,
        "overrides": dict(job.distinguishes),
        "code": code_fingerprint(),
        "threads": config["trainer"]["threads"],
        "device": str(module.device),
    }
    files.write_json(run_dir / files.RESULT, result)
    for note in result["notes"]:
        print(f"{job.title}: note: {note}", file=sys.stderr)
    multi = scores["val"]["multi"]["accuracy"]
    print(
        f"{job.title}: val/acc {multi:.3f} (best epoch {result['best_epoch']}), {sum(times):.1f} s"
    )


def _silence_lightning() -> None:
    """Drop advice that does not apply: loaders of tensors need no workers, and the like."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for text in (
        ".*does not have many workers.*",
        ".*is smaller than the logging interval.*",
        ".*in eval mode at the start of training.*",  # frozen encoders are meant to be
        ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning 2.6.6 with torch 2.13
    ):
        warnings.filterwarnings("ignore", text)
