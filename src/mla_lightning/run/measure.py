"""What a run measures once it is trained, and the result that it leaves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lightning.pytorch import Trainer

from mla_lightning import run_folder as files
from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.config import Job
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.metrics.base import Metric
from mla_lightning.module import MultimodalModule
from mla_lightning.run.diagnose import diagnose
from mla_lightning.run.evaluate import Predictions, missing_of, predict, probe, scores_of
from mla_lightning.run.record import write_arrays, write_predictions
from mla_lightning.run_folder import columns
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_folder.result import Result, Scores


@dataclass(frozen=True)
class Trained:
    """A job after training.

    Attributes:
        job: The job.
        trainer: Its trainer.
        module: Its module.
        data: Its data.
        checkpoint: Knows the selected weights.
        metrics: Name -> metric that is computed of its predictions.
        peak_memory_mb: Most memory that training took, in MiB.
        uncounted: Operations that the FLOPs leave out.
    """

    job: Job
    trainer: Trainer
    module: MultimodalModule
    data: MultimodalDataModule
    checkpoint: RunCheckpoint
    metrics: Mapping[str, Metric]
    peak_memory_mb: float
    uncounted: Collection[str] = ()


@dataclass(frozen=True)
class Measured:
    """What was measured of a trained job.

    Attributes:
        predictions: Split -> predictions.
        scores: Split -> scores, of ``val`` and, if it was evaluated, ``test``.
        probe_accuracy: Split -> modality -> accuracy of the ridge probe, None without probes.
        diagnostics: Numbers of the diagnostics, None without diagnostics.
        planes: Features in a plane.
    """

    predictions: Mapping[str, Predictions]
    scores: Mapping[str, Scores]
    probe_accuracy: dict[str, Any] | None = None
    diagnostics: dict[str, Any] | None = None
    planes: Mapping[str, np.ndarray] = field(default_factory=dict)


def measure(trained: Trained) -> Measured:
    """Evaluate, probe and diagnose a trained job, as its config asks.

    Args:
        trained: The job after training.

    Returns:
        What was measured.
    """
    config, data, module = trained.job.config, trained.data, trained.module
    evaluated = evaluated_splits(config)
    probed = ("train", *evaluated) if config.evaluate_probe else ()
    is_diagnosed = config.diagnostics != "off"
    featured = {*probed, *(evaluated if is_diagnosed else ())}
    predictions = {
        split: predict(
            trained.trainer,
            module,
            data.loader(split),
            trained.checkpoint,
            features=split in featured,
        )
        for split in dict.fromkeys((*evaluated, *probed))
    }
    diagnostics: dict[str, Any] | None = None
    planes: dict[str, np.ndarray] = {}
    if is_diagnosed:
        forward = trained.trainer.precision_plugin.forward_context
        diagnostics, planes = diagnose(
            module, data, predictions, config.diagnostics, trained.uncounted, forward
        )
    return Measured(
        predictions,
        {split: scores_of(predictions[split], trained.metrics) for split in evaluated},
        probe(predictions, data.num_classes) if probed else None,
        diagnostics,
        planes,
    )


def evaluated_splits(config: RunConfig) -> tuple[str, ...]:
    """Return the splits that a run is scored on: without test if ``evaluate_test=false``."""
    return ("val", "test") if config.evaluate_test else ("val",)


def write_measured(trained: Trained, measured: Measured) -> Result:
    """Write what was measured to the run folder, the result last: its presence means done.

    Args:
        trained: The job after training.
        measured: What was measured of it.

    Returns:
        The result.
    """
    run_dir = trained.job.run_dir
    if "test" in measured.predictions:
        write_predictions(run_dir, measured.predictions["test"], trained.data.class_names)
    if measured.diagnostics is not None:
        files.write_json(run_dir / files.DIAGNOSTICS, measured.diagnostics)
        write_arrays(run_dir / files.PLANES, measured.planes)
    result = result_of(trained, measured)
    files.write_json(run_dir / files.RESULT, result.to_json())
    return result


def result_of(trained: Trained, measured: Measured) -> Result:
    """Return the result of a job.

    Args:
        trained: The job after training.
        measured: What was measured of it.
    """
    job, module, data = trained.job, trained.module, trained.data
    config = job.config
    rows = files.read_metrics(job.run_dir)
    times = [row[columns.EPOCH_TIME] for row in rows]
    about = data.describe()
    return Result(
        identity=job.identity,
        name=config.name,
        dataset=data.name,
        method=config.choices["method"],
        ablation=config.choices["ablation"],
        seed=config.seed,
        protocol=config.protocol,
        split=about["split"],
        num_train=about["num_train"],
        num_val=about["num_val"],
        num_test=about["num_test"],
        modalities=list(module.modalities),
        unimodal_rule=module.fusion.unimodal_rule,
        lr=config.optimizer.get("lr"),
        epochs=len(times),
        best_epoch=max(epoch for _, epoch in trained.checkpoint.best.values()),
        val=dict(measured.scores["val"]),
        test=dict(measured.scores["test"]) if "test" in measured.scores else None,
        probe_accuracy=measured.probe_accuracy,
        notes=sorted(module.notes),
        missing=missing_of(data, measured.predictions) if data.missing else None,
        train_time_s=sum(times),
        epoch_time_s=float(np.median(times)),
        step_time_s=float(np.median([row[columns.STEP_TIME] for row in rows])),
        peak_memory_mb=trained.peak_memory_mb,
        num_parameters=sum(p.numel() for p in module.parameters()),
        num_batches_trained=trained.trainer.global_step,
        overrides=dict(job.distinguishing_overrides),
        code=job.code.hash,
        threads=config.trainer.threads,
        device=str(module.device),
        metrics={name: metric.shown() for name, metric in trained.metrics.items()},
    )
