"""What a trained module answers and what its encoders know, with the weights selected for each."""

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
from mla_lightning.data.missing import manifest_hash
from mla_lightning.errors import RunError
from mla_lightning.functional import fuse_logits, mean_weights, missing_rate_of
from mla_lightning.metrics.evaluation import Evaluation, score_logits
from mla_lightning.metrics.probe import probe_accuracies
from mla_lightning.module import MultimodalModule


@dataclass(frozen=True)
class Answers:
    """A split as a module sees it, sorted by the samples' numbers, on the CPU.

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

    @property
    def predictions(self) -> tuple[Mapping[str, Tensor], Tensor, Tensor]:
        """Logits, labels and indices."""
        return self.logits, self.label, self.index


def evaluate(
    trainer: Trainer,
    module: MultimodalModule,
    loader: Any,
    checkpoint: RunCheckpoint,
    *,
    features: bool = False,
) -> Answers:
    """Compute every reported modality's logits with the weights selected for it.

    Args:
        trainer: The trainer.
        module: The module; its weights are replaced.
        loader: Loader of the split.
        checkpoint: Knows where the selected weights are.
        features: Keep the encoders' features, too, each modality's with its own weights.

    Returns:
        What was computed.
    """
    selections = module.selections()
    logits: dict[str, Tensor] = {}
    kept: dict[str, dict[str, Tensor]] = {"feature": {}, "present": {}}
    module.keeps_features = features
    for metric in dict.fromkeys(selections.values()):
        content = read_checkpoint(checkpoint.best_path(metric))
        if content["epoch"] != checkpoint.best[metric][1]:
            raise RunError(
                f"{checkpoint.best_path(metric)} is of epoch {content['epoch']}, expected "
                f"{checkpoint.best[metric][1]}; add overwrite=true to train again"
            )
        load_weights(module, content["state_dict"], checkpoint.best_path(metric))
        collected = Evaluation(module.parts.num_classes)
        for part in trainer.predict(module, loader) or []:
            collected.add(*part)
        values, label, index = collected.arrays()
        chosen = [name for name, by in selections.items() if by == metric]
        logits |= {name: values[name] for name in chosen}
        kept["present"] |= {m: values[f"present/{m}"] for m in module.modalities}
        if features:
            kept["feature"] |= {m: values[f"feature/{m}"] for m in chosen if m in module.modalities}
    module.keeps_features = False
    present = {name: values > 0 for name, values in kept["present"].items()}
    if "multi" not in logits:
        own = torch.stack([logits[m] for m in module.modalities])
        weights = mean_weights(torch.stack([present[m] for m in module.modalities]))
        logits = {"multi": fuse_logits(weights, own), **logits}
    return Answers(logits, label, index, kept["feature"], present)


def scores_of(answers: Answers) -> dict[str, dict[str, float | None]]:
    """Score what was computed; see :func:`~mla_lightning.metrics.evaluation.score_logits`.

    Args:
        answers: A split as a module sees it.

    Returns:
        Reported modality -> metric -> value; None for a modality that no sample of the split has.
    """
    scores = score_logits(answers.logits, answers.label, answers.present)
    return {
        name: {metric: None if math.isnan(value) else value for metric, value in found.items()}
        for name, found in scores.items()
    }


def probe(found: Mapping[str, Answers], num_classes: int) -> dict[str, dict[str, float]]:
    """Probe every modality's encoder; see :func:`~mla_lightning.metrics.probe.ridge_probe`.

    Args:
        found: Split -> what was computed of it, features included; ``train`` and ``val`` are
            needed.
        num_classes: Number of classes C.

    Returns:
        Split other than ``train`` -> modality -> share of right answers.
    """
    return probe_accuracies(
        {split: answers.features for split, answers in found.items()},
        {split: answers.label for split, answers in found.items()},
        {split: answers.present for split, answers in found.items()},
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


def missing_of(data: MultimodalDataModule, found: Mapping[str, Answers]) -> dict[str, Any]:
    """Tell what was missing, and how accurate the fused answers are by pattern.

    Args:
        data: The data module.
        found: Split -> what was computed of it.

    Returns:
        ``realised_rate`` (split -> share of missing cells), ``mask_sha256``, and ``patterns``:
        split -> pattern such as ``audio+text`` -> ``num`` and, of splits that are evaluated,
        ``accuracy``. Training masks that are drawn anew each epoch are those of the first.
    """
    patterns: dict[str, dict[str, dict[str, float]]] = {}
    for split, mask in data.masks.items():
        answers = found.get(split) if split != "train" else None
        is_right = None
        if answers is not None:
            mask = mask.index_select(0, answers.index)
            is_right = answers.logits["multi"].argmax(dim=1) == answers.label
        codes = (mask.long() << torch.arange(mask.shape[1])).sum(dim=1)
        patterns[split] = {}
        for code in codes.unique().tolist():
            rows = codes == code
            kept = "+".join(m for place, m in enumerate(data.modalities) if code >> place & 1)
            patterns[split][kept] = {"num": int(rows.sum())}
            if is_right is not None:
                patterns[split][kept]["accuracy"] = float(is_right[rows].double().mean())
    return {
        "realised_rate": {split: missing_rate_of(mask) for split, mask in data.masks.items()},
        "mask_sha256": manifest_hash(data.masks),
        "patterns": patterns,
    }
