"""Predictions of a trained module with the weights selected for each modality, and their scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
from mla_lightning.functional import fuse_logits, mean_weights, missing_rate
from mla_lightning.metrics.base import Metric
from mla_lightning.metrics.evaluation import Evaluation, score_logits
from mla_lightning.metrics.probe import probe_accuracies
from mla_lightning.module import MultimodalModule
from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.result import Scores


@dataclass(frozen=True)
class Predictions:
    """What a module computes of a split, sorted by the samples' numbers, on the CPU.

    Attributes:
        logits: Reported modality -> logits (N, C).
        label: Labels (N,).
        index: The samples' numbers (N,).
        features: Modality -> features (N, D_m); empty unless asked for.
        present: Modality -> (N,) bool.
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
) -> Predictions:
    """Compute every reported modality's logits with the weights selected for it.

    Args:
        trainer: The trainer.
        module: The module; its weights are replaced.
        loader: Loader of the split.
        checkpoint: Knows where the selected weights are.
        features: Keep the encoders' features, too, each modality's with its own weights.

    Returns:
        The predictions.

    Raises:
        RunError: If the selected weights are not there or of another model.
    """
    selections = module.selections()
    logits: dict[str, Tensor] = {}
    kept: dict[str, dict[str, Tensor]] = {"feature": {}, "present": {}}
    module.returns_features = features
    for metric in dict.fromkeys(selections.values()):
        content = read_checkpoint(checkpoint.best_path(metric))
        if content["epoch"] != checkpoint.best[metric][1]:
            raise RunError(
                f"{checkpoint.best_path(metric)} is of epoch {content['epoch']}, expected "
                f"{checkpoint.best[metric][1]}; add overwrite=true to train again"
            )
        load_weights(module, content["state_dict"], checkpoint.best_path(metric))
        collected = Evaluation(module.parts.num_classes)
        for batch in trainer.predict(module, loader) or []:
            collected.add(*batch)
        values, label, index = collected.arrays()
        chosen = [name for name, by in selections.items() if by == metric]
        logits |= {name: values[name] for name in chosen}
        kept["present"] |= {m: values[f"present/{m}"] for m in module.modalities}
        if features:
            kept["feature"] |= {m: values[f"feature/{m}"] for m in chosen if m in module.modalities}
    module.returns_features = False
    present = {name: values > 0 for name, values in kept["present"].items()}
    if MULTI not in logits:
        stacked = torch.stack([logits[m] for m in module.modalities])
        weights = mean_weights(torch.stack([present[m] for m in module.modalities]))
        logits = {MULTI: fuse_logits(weights, stacked), **logits}
    return Predictions(logits, label, index, kept["feature"], present)


def scores_of(predictions: Predictions, metrics: Mapping[str, Metric]) -> Scores:
    """Score predictions.

    Args:
        predictions: Of a split.
        metrics: Name -> metric.

    Returns:
        Reported modality -> metric -> value; None for a modality that no sample of the split has.
    """
    functions = {name: metric.function for name, metric in metrics.items()}
    scores = score_logits(predictions.logits, predictions.label, predictions.present, functions)
    return {
        name: {metric: None if math.isnan(value) else value for metric, value in values.items()}
        for name, values in scores.items()
    }


def probe(predictions: Mapping[str, Predictions], num_classes: int) -> dict[str, dict[str, float]]:
    """Probe every modality's encoder; see :func:`~mla_lightning.metrics.probe.ridge_probe`.

    Args:
        predictions: Split -> predictions, features included; ``train`` and ``val`` are needed.
        num_classes: Number of classes C.

    Returns:
        Split other than ``train`` -> modality -> accuracy.
    """
    return probe_accuracies(
        {split: values.features for split, values in predictions.items()},
        {split: values.label for split, values in predictions.items()},
        {split: values.present for split, values in predictions.items()},
        num_classes,
    )


def load_weights(module: nn.Module, state: Mapping[str, Tensor], path: Any) -> None:
    """Load weights, all or none.

    Args:
        module: The module.
        state: Weights and buffers by name.
        path: Where they come from, for the message.

    Raises:
        RunError: If names or shapes differ, listing which.
    """
    own = module.state_dict()
    faults = [f"missing {key}" for key in own.keys() - state.keys()]
    faults += [f"unexpected {key}" for key in state.keys() - own.keys()]
    for key in own.keys() & state.keys():
        if own[key].shape != state[key].shape:
            faults.append(f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}")
    if faults:
        raise RunError(
            f"{path} is of another model: {'; '.join(sorted(faults))}. Nothing was loaded."
        )
    module.load_state_dict(state)


def load_encoders(encoders: Mapping[str, nn.Module], path: Path) -> None:
    """Give encoders the weights of a run's checkpoint, all or none.

    Args:
        encoders: Modality -> encoder.
        path: The checkpoint, such as ``runs/.../checkpoints/best-acc.ckpt``.

    Raises:
        RunError: If it cannot be read or is of other encoders.
    """
    state = read_checkpoint(path)["state_dict"]
    of_encoders = {
        key.removeprefix("encoders."): value
        for key, value in state.items()
        if key.startswith("encoders.")
    }
    load_weights(nn.ModuleDict(encoders), of_encoders, path)


def missing_of(
    data: MultimodalDataModule, predictions: Mapping[str, Predictions]
) -> dict[str, Any]:
    """Summarise what was missing, and the accuracy of the fused prediction by pattern.

    Args:
        data: The data module.
        predictions: Split -> predictions.

    Returns:
        ``realised_rate`` (split -> share of missing cells), ``mask_sha256``, and ``patterns``:
        split -> pattern such as ``audio+text`` -> ``num`` and, of splits that are evaluated,
        ``accuracy``. Training masks that are drawn anew each epoch are those of the first.
    """
    patterns: dict[str, dict[str, dict[str, float]]] = {}
    for split, mask in data.masks.items():
        values = predictions.get(split) if split != "train" else None
        is_correct = None
        if values is not None:
            mask = mask.index_select(0, values.index)
            is_correct = values.logits[MULTI].argmax(dim=1) == values.label
        codes = (mask.long() << torch.arange(mask.shape[1])).sum(dim=1)
        patterns[split] = {}
        for code in codes.unique().tolist():
            rows = codes == code
            name = "+".join(m for place, m in enumerate(data.modalities) if code >> place & 1)
            patterns[split][name] = {"num": int(rows.sum())}
            if is_correct is not None:
                patterns[split][name]["accuracy"] = float(is_correct[rows].double().mean())
    return {
        "realised_rate": {split: missing_rate(mask) for split, mask in data.masks.items()},
        "mask_sha256": masks_hash(data.masks),
        "patterns": patterns,
    }
