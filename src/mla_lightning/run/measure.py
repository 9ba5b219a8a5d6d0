"""Evaluation, probes and diagnostics after training, and the result of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from lightning.pytorch import Trainer

from mla_lightning import run_folder as files
from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.callbacks.diagnostics import EpochDiagnostics
from mla_lightning.callbacks.progress import name_prediction
from mla_lightning.config import Job
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.errors import RunError
from mla_lightning.metrics.base import Metric
from mla_lightning.module import MultimodalModule
from mla_lightning.run.diagnose import diagnose
from mla_lightning.run.evaluate import (
    SplitPredictions,
    predict,
    probe_encoders,
    score_predictions,
    summarise_missing,
)
from mla_lightning.run.record import write_arrays, write_predictions
from mla_lightning.run_folder import columns
from mla_lightning.run_folder.ceiling import distance_note
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_folder.integrity import seal
from mla_lightning.run_folder.majority import find_majority
from mla_lightning.run_folder.parsing import is_measurable
from mla_lightning.run_folder.result import Result, Scores
from mla_lightning.run_folder.tasks import CLASSIFICATION, primary_name

#: Difference of the missing rates of two splits from which they are different tasks.
SAME_RATE = 0.05


@dataclass(frozen=True)
class TrainedJob:
    """A job after training.

    Attributes:
        job: The job.
        trainer: Its trainer.
        module: Its module.
        data: Its data.
        checkpoint: Lists the selected weights.
        metrics: Name -> metric to compute of its predictions.
        peak_memory_mb: Peak memory of training, in MiB.
        num_batches: Number of batches that were trained.
        diagnostics: What was measured during training; None for nothing.
    """

    job: Job
    trainer: Trainer
    module: MultimodalModule
    data: MultimodalDataModule
    checkpoint: RunCheckpoint
    metrics: Mapping[str, Metric]
    peak_memory_mb: float
    num_batches: int
    diagnostics: EpochDiagnostics | None = None

    @property
    def uncounted(self) -> Collection[str]:
        """Names of operations that are not in the FLOPs."""
        return () if self.diagnostics is None else self.diagnostics.uncounted

    @property
    def train_gflop(self) -> float | None:
        """FLOPs of training, in billions; None if they were not counted."""
        flops = None if self.diagnostics is None else self.diagnostics.train_flops
        return None if flops is None else flops / 1e9


@dataclass(frozen=True)
class Measurements:
    """Predictions, scores, probes and diagnostics of a trained job.

    Attributes:
        predictions: Split -> predictions.
        scores: Split -> scores, for ``val`` and, if it is evaluated, ``test``.
        probe_scores: Split -> modality -> primary metric of the ridge probe; None without probes.
        diagnostics: Content of ``diagnostics.json``; None without diagnostics.
        planes: Arrays of ``planes.npz``: features projected to a plane.
    """

    predictions: Mapping[str, SplitPredictions]
    scores: Mapping[str, Scores]
    probe_scores: dict[str, Any] | None = None
    diagnostics: dict[str, Any] | None = None
    planes: Mapping[str, np.ndarray] = field(default_factory=dict)


def measure(trained: TrainedJob) -> Measurements:
    """Evaluate a trained job; add probes and diagnostics if its config enables them.

    Args:
        trained: The job after training.
    """
    config, data, module = trained.job.config, trained.data, trained.module
    evaluated = evaluated_splits(config)
    probed = ("train", *evaluated) if config.evaluate_probe else ()
    has_diagnostics = config.diagnostics not in ("off", "cost")
    needs_features = {*probed, *(evaluated if has_diagnostics else ())}
    predictions = {}
    for split in dict.fromkeys((*evaluated, *probed)):
        with_features = split in needs_features
        name_prediction(trained.trainer, f"Evaluating {split}")
        predictions[split] = predict(
            trained.trainer,
            module,
            data.loader(split),
            trained.checkpoint,
            features=with_features,
        )
    diagnostics: dict[str, Any] | None = None
    planes: dict[str, np.ndarray] = {}
    if has_diagnostics:
        forward = trained.trainer.precision_plugin.forward_context
        diagnostics, planes = diagnose(
            module, data, predictions, config.diagnostics, trained.uncounted, forward
        )
    return Measurements(
        predictions,
        {split: score_predictions(predictions[split], trained.metrics) for split in evaluated},
        probe_encoders(predictions, module.task.name, data.num_classes) if probed else None,
        diagnostics,
        planes,
    )


def evaluated_splits(config: RunConfig) -> tuple[str, ...]:
    """Return the evaluated splits: ``val`` and, unless ``evaluate_test=false``, ``test``.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> (job,) = compose_jobs(["data=synthetic", "method=mla", "evaluate_test=false"])
        >>> evaluated_splits(job.config)
        ('val',)
    """
    return ("val", "test") if config.evaluate_test else ("val",)


def write_measurements(trained: TrainedJob, measurements: Measurements) -> Result:
    """Write measurements to the run folder, ``result.json`` last: its presence means finished.

    Args:
        trained: The job after training.
        measurements: Its measurements.

    Returns:
        The result.

    Raises:
        RunError: If a score is so large, or not finite, that no reader of the run accepts it.
    """
    run_dir = trained.job.run_dir
    _check_scores(measurements.scores)
    if "test" in measurements.predictions:
        write_predictions(run_dir, measurements.predictions["test"], trained.data.class_names)
    if measurements.diagnostics is not None:
        files.write_json(run_dir / files.DIAGNOSTICS, measurements.diagnostics)
        write_arrays(run_dir / files.PLANES, measurements.planes)
    result = replace(build_result(trained, measurements), files=seal(run_dir))
    files.write_json(run_dir / files.RESULT, result.to_json())
    return result


def _check_scores(scores: Mapping[str, Scores]) -> None:
    for split, of_split in scores.items():
        for name, values in of_split.items():
            for metric, value in values.items():
                if value is not None and not is_measurable(value):
                    raise RunError(
                        f"The {split} {metric} of {name} is {value:.4g}: the training diverged. "
                        "Try a smaller optimizer.lr, or trainer.clip_norm=1."
                    )


def build_result(trained: TrainedJob, measurements: Measurements) -> Result:
    """Build the result of a job.

    Args:
        trained: The job after training.
        measurements: Its measurements.
    """
    job, module, data = trained.job, trained.module, trained.data
    config = job.config
    rows = files.read_metrics(job.run_dir)
    times = [row[columns.EPOCH_TIME] for row in rows]
    description = data.describe()
    has_classes = module.task.name == CLASSIFICATION
    result = Result(
        identity=job.identity,
        name=config.name,
        dataset=data.name,
        method=config.choices["method"],
        ablation=config.choices["ablation"],
        seed=config.seed,
        protocol=config.protocol,
        task=module.task.name,
        select_by=module.parts.select_by or primary_name(module.task.name),
        split=description["split"],
        num_train=description["num_train"],
        num_val=description["num_val"],
        num_test=description["num_test"],
        modalities=list(module.modalities),
        unimodal_rule=module.unimodal_rule or module.fusion.unimodal_rule,
        lr=config.optimizer.get("lr"),
        epochs=len(times),
        best_epoch=max(epoch for _, epoch in trained.checkpoint.best.values()),
        val=dict(measurements.scores["val"]),
        test=dict(measurements.scores["test"]) if "test" in measurements.scores else None,
        probe_accuracy=measurements.probe_scores if has_classes else None,
        probe_scores=None if has_classes else measurements.probe_scores,
        notes=sorted(module.notes),
        missing=summarise_missing(data, measurements.predictions) if data.missing else None,
        train_time_s=sum(times) + module.earlier_train_s,
        epoch_time_s=float(np.median(times)),
        step_time_s=float(np.median([row[columns.STEP_TIME] for row in rows])),
        peak_memory_mb=trained.peak_memory_mb,
        num_parameters=sum(p.numel() for p in module.parameters()),
        num_batches_trained=trained.num_batches,
        train_gflop=trained.train_gflop,
        overrides=dict(job.distinguishing_overrides),
        code=job.code.hash,
        threads=config.trainer.threads,
        device=str(module.device),
        devices=config.trainer.devices,
        num_nodes=config.trainer.num_nodes,
        metrics={
            name: metric.shown()
            for name, metric in trained.metrics.items()
            if name in measurements.scores["val"][columns.MULTI]
        },
    )
    notes = {*result.notes, _distance_note(result), _majority_note(result, description)}
    return replace(result, notes=sorted(notes - {""}))


def _distance_note(result: Result) -> str:
    """Return a note if validation, by which the epoch was selected, is far from test."""
    rates = (result.missing or {}).get("realised_rate") or {}
    is_same_task = abs(rates.get("val", 0.0) - rates.get("test", 0.0)) < SAME_RATE
    if result.protocol != "validation" or result.test is None or not is_same_task:
        return ""
    val, test = (
        scores[columns.MULTI].get("accuracy") for scores in (result.val or {}, result.test)
    )
    return distance_note(val, test, result.num_val, result.num_test)


def _majority_note(result: Result, description: Mapping[str, Any]) -> str:
    """Return a note on the most frequent class if the classes are imbalanced."""
    majority = find_majority(description)
    if majority is None or result.method == "majority":
        return ""
    return majority.note("val" if result.test is None else "test")
