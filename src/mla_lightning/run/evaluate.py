"""Evaluation of a trained module with the weights selected for each modality."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.callbacks.checkpoint_io import read_checkpoint
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.data.missing import masks_hash
from mla_lightning.errors import RunError
from mla_lightning.functional import missing_rate
from mla_lightning.metrics.base import Metric
from mla_lightning.metrics.by_task import primary_score
from mla_lightning.metrics.evaluation import Evaluation, score_logits
from mla_lightning.metrics.outcome import Outcome
from mla_lightning.metrics.probe import probe_scores
from mla_lightning.module import MultimodalModule
from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.result import Scores
from mla_lightning.run_folder.tasks import PRIMARY


@dataclass(frozen=True)
class SplitPredictions:
    """Logits and features of all samples of a split, sorted by sample number, on the CPU.

    Attributes:
        logits: Reported modality -> logits (N, C).
        label: Labels (N,).
        index: Sample numbers (N,).
        features: Modality -> features (N, D_m); empty unless requested.
        present: Modality -> (N,) bool.

    Example:
        >>> logits = {"multi": torch.tensor([[0.0, 1.0]])}
        >>> predictions = SplitPredictions(logits, torch.tensor([1]), torch.tensor([0]), {}, {})
        >>> predictions.logits["multi"].argmax(dim=1) == predictions.label
        tensor([True])
    """

    logits: Mapping[str, Tensor]
    label: Tensor
    index: Tensor
    features: Mapping[str, Tensor]
    present: Mapping[str, Tensor]


def predict(
    trainer: Trainer,
    module: MultimodalModule,
    loader: Any,
    checkpoint: RunCheckpoint,
    *,
    features: bool = False,
) -> SplitPredictions:
    """Compute the logits of every reported modality with the weights selected for it.

    Args:
        trainer: The trainer.
        module: The module; its weights are replaced.
        loader: Loader of the split.
        checkpoint: Lists the selected weights.
        features: Also return the encoders' features, of each modality with its selected weights.

    Returns:
        The predictions.

    Raises:
        RunError: If the selected weights are missing, or belong to another epoch or model.
    """
    selections = module.selections()
    logits: dict[str, Tensor] = {}
    selected_features: dict[str, Tensor] = {}
    presence: dict[str, Tensor] = {}
    module.returns_features = features
    metrics = dict.fromkeys(selections.values())
    # The weights of a combination are in the latest file, which is loaded last.
    for metric in sorted(metrics, key=lambda metric: checkpoint.best[metric][1]):
        path, epoch = checkpoint.best_path(metric), checkpoint.best[metric][1]
        content = read_checkpoint(path)
        if content["epoch"] != epoch:
            raise RunError(
                f"{path} holds the weights of epoch {content['epoch']}, expected epoch {epoch}; "
                "add overwrite=true to train again"
            )
        load_weights(module, content["state_dict"], path)
        collected = Evaluation(module.parts.num_classes)
        for batch in trainer.predict(module, loader) or []:
            collected.add(*batch)
        values, label, index = collected.arrays()
        names = [name for name, selection in selections.items() if selection == metric]
        logits |= {name: values[name] for name in names}
        presence |= {m: values[f"present/{m}"] for m in module.modalities}
        if features:
            selected = [m for m in names if m in module.modalities]
            selected_features |= {m: values[f"feature/{m}"] for m in selected}
    module.returns_features = False
    present = {name: values > 0 for name, values in presence.items()}
    if MULTI not in logits:
        stacked = torch.stack([logits[m] for m in module.modalities])
        present_MN = torch.stack([present[m] for m in module.modalities])
        logits = {m: logits[m] for m in module.modalities}
        selected_features = {m: h for m in logits if (h := selected_features.get(m)) is not None}
        logits = {MULTI: module.combine(stacked, present_MN), **logits}
    return SplitPredictions(logits, label, index, selected_features, present)


def score_predictions(predictions: SplitPredictions, metrics: Mapping[str, Metric]) -> Scores:
    """Compute metrics of the predictions of a split.

    Args:
        predictions: Predictions of the split.
        metrics: Name -> metric.

    Returns:
        Reported modality -> metric -> value; None for a modality that no sample of the split has.
        Metrics that are not defined for the labels are left out.

    Example:
        >>> from mla_lightning.metrics.classification import accuracy
        >>> logits = {"multi": torch.tensor([[2.0, 0.0], [0.0, 1.0]])}
        >>> predictions = SplitPredictions(logits, torch.tensor([0, 0]), torch.arange(2), {}, {})
        >>> metrics = {"accuracy": Metric(function=accuracy, label="Accuracy")}
        >>> score_predictions(predictions, metrics)
        {'multi': {'accuracy': 0.5}}
    """
    functions = {
        name: _named(name, metric)
        for name, metric in metrics.items()
        if metric.defined_for is None or metric.defined_for(predictions.label)
    }
    scores = score_logits(predictions.logits, predictions.label, predictions.present, functions)
    return {
        name: {metric: None if math.isnan(value) else value for metric, value in values.items()}
        for name, values in scores.items()
    }


def _named(name: str, metric: Metric) -> Callable[[Outcome], float]:
    """Return a metric's function, whose errors name the metric and its YAML."""

    def compute(outcome: Outcome) -> float:
        try:
            return float(metric.function(outcome))
        except Exception as error:  # code of a user, which may raise anything
            raise RunError(
                f"The metric {name!r} (metric/{name}.yaml) cannot be computed: "
                f"{type(error).__name__}: {error}. It must be a function of an Outcome that "
                "returns one number."
            ) from error

    return compute


def probe_encoders(
    predictions: Mapping[str, SplitPredictions], task: str, num_classes: int
) -> dict[str, dict[str, float]]:
    """Fit a ridge probe to the features of each modality's encoder.

    See :func:`~mla_lightning.metrics.probe.ridge_probe`.

    Args:
        predictions: Split -> predictions with features; ``train`` and ``val`` are required.
        task: The task of the data.
        num_classes: Number of classes C or labels L; 1 for regression.

    Returns:
        Split other than ``train`` -> modality -> the task's primary metric.

    Example:
        Features that separate the classes:

        >>> label = torch.tensor([0, 1] * 8)
        >>> features = {"audio": label[:, None] * 2.0 - 1}
        >>> present = {"audio": torch.ones(16, dtype=torch.bool)}
        >>> split = SplitPredictions({}, label, torch.arange(16), features, present)
        >>> probe_encoders({"train": split, "val": split}, "classification", num_classes=2)
        {'val': {'audio': 1.0}}
    """
    return probe_scores(
        {split: values.features for split, values in predictions.items()},
        {split: values.label for split, values in predictions.items()},
        {split: values.present for split, values in predictions.items()},
        num_classes,
        task,
    )


def load_weights(module: nn.Module, state: Mapping[str, Tensor], path: Any) -> None:
    """Load weights, all or none.

    Args:
        module: The module.
        state: Weights and buffers by name.
        path: The file that they come from, for the message.

    Raises:
        RunError: If names or shapes differ, with all differences.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> load_weights(layer, {"weight": torch.ones(1, 3)}, "best-acc.ckpt")
        Traceback (most recent call last):
        mla_lightning.errors.RunError: best-acc.ckpt belongs to another model: missing bias; weight
        has shape (1, 3), expected (1, 2). Nothing was loaded.
    """
    if allocate := getattr(module, "allocate", None):  # widths that the data decide
        allocate(state)
    expected = module.state_dict()
    problems = [f"missing {key}" for key in expected.keys() - state.keys()]
    problems += [f"unexpected {key}" for key in state.keys() - expected.keys()]
    for key in expected.keys() & state.keys():
        shape, expected_shape = tuple(state[key].shape), tuple(expected[key].shape)
        if shape != expected_shape:
            problems.append(f"{key} has shape {shape}, expected {expected_shape}")
    if problems:
        raise RunError(
            f"{path} belongs to another model: {'; '.join(sorted(problems))}. Nothing was loaded."
        )
    module.load_state_dict(state)


def load_encoders(encoders: Mapping[str, nn.Module], path: Path) -> dict[str, Tensor]:
    """Load the encoders' weights from a run's checkpoint, all or none.

    Args:
        encoders: Modality -> encoder.
        path: The checkpoint, such as ``runs/.../checkpoints/best-acc.ckpt``.

    Returns:
        All weights of the checkpoint.

    Raises:
        RunError: If it cannot be read or belongs to other encoders.
    """
    state: dict[str, Tensor] = read_checkpoint(path)["state_dict"]
    prefix = "encoders."
    weights = {k.removeprefix(prefix): w for k, w in state.items() if k.startswith(prefix)}
    load_weights(nn.ModuleDict(encoders), weights, path)
    return state


def summarise_missing(
    data: MultimodalDataModule, predictions: Mapping[str, SplitPredictions]
) -> dict[str, Any]:
    """Summarise which modalities were missing, and the score of the fused prediction by pattern.

    Args:
        data: The data module.
        predictions: Split -> predictions.

    Returns:
        ``realised_rate`` (split -> missing fraction of the modalities of all samples),
        ``mask_sha256``, and ``patterns``: split -> pattern of present modalities such as
        ``audio+text`` -> ``num`` samples and, for evaluated splits, the task's primary metric, such
        as ``accuracy``. Training masks that are redrawn in each epoch are those of the first.
    """
    patterns: dict[str, dict[str, dict[str, float]]] = {}
    for split, mask in data.masks.items():
        values = predictions.get(split) if split != "train" else None
        if values is not None:
            mask = mask.index_select(0, values.index)
        codes = (mask.long() << torch.arange(mask.shape[1])).sum(dim=1)
        patterns[split] = {}
        for code in codes.unique().tolist():
            rows = codes == code
            name = "+".join(m for place, m in enumerate(data.modalities) if code >> place & 1)
            patterns[split][name] = {"num": int(rows.sum())}
            if values is not None:
                score = primary_score(data.task, values.logits[MULTI][rows], values.label[rows])
                patterns[split][name][PRIMARY[data.task].metric] = score
    return {
        "realised_rate": {split: missing_rate(mask) for split, mask in data.masks.items()},
        "mask_sha256": masks_hash(data.masks),
        "patterns": patterns,
    }
