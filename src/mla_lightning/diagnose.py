"""What a trained module answers and encodes: contribution, fusion, calibration, geometry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mla_lightning.callbacks.diagnostics import EpochDiagnostics
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.data.loading import Request
from mla_lightning.evaluate import Answers
from mla_lightning.fusion.base import LogitFusion
from mla_lightning.metrics.calibration import entropy_bins, reliability, temperature
from mla_lightning.metrics.contribution import (
    MOST_MODALITIES,
    agreement,
    shapley_values,
    subsets,
)
from mla_lightning.metrics.geometry import modality_gap, principal_plane, tsne_plane
from mla_lightning.module import Batch, MultimodalModule
from mla_lightning.randomness import derive_seed

#: Samples of the fixed batch, of the epochs' probe, and of the pictures, at most.
NUM_FIXED, NUM_PROBED, NUM_DRAWN = 128, 512, 300
MULTI = "multi"


def epoch_diagnostics(mode: str, data: MultimodalDataModule) -> EpochDiagnostics:
    """Make the callback that measures during training.

    Args:
        mode: ``epoch``, or ``full`` for more batches and all samples.
        data: The data.

    Returns:
        The callback.
    """
    most = NUM_PROBED if mode == "epoch" else None
    # Of train: on other samples a change of loss would be overfitting as well as forgetting.
    (fixed,) = some_batches(data, "train", NUM_FIXED, size=NUM_FIXED)
    probed = {split: some_batches(data, split, most) for split in ("train", "val")}
    return EpochDiagnostics(mode, fixed, probed, len(data.train_dataloader()))


@dataclass(frozen=True)
class SomeBatches:
    """Batches that are read anew each time they are gone through.

    Attributes:
        split: The samples.
        requests: The batches.
    """

    split: Any
    requests: tuple[Request, ...]

    def __iter__(self) -> Iterator[Batch]:
        """Read them, one at a time."""
        for request in self.requests:
            yield self.split[request]


def some_batches(
    data: MultimodalDataModule, split: str, most: int | None, size: int = 256
) -> SomeBatches:
    """Choose samples of a split, drawn by the run's seed and the same in every epoch.

    Args:
        data: The data.
        split: The split.
        most: Number of samples at most; None for all.
        size: Samples of a batch.

    Returns:
        Batches, not augmented.
    """
    taken: Any = data.loader(split).dataset
    seed = derive_seed(data.seed, "diagnostics", split)
    order = torch.randperm(len(taken), generator=torch.Generator().manual_seed(seed))
    rows = order[:most].sort().values
    return SomeBatches(taken, tuple(Request(0, part) for part in rows.split(size)))


def diagnose(
    module: MultimodalModule,
    data: MultimodalDataModule,
    found: Mapping[str, Answers],
    mode: str,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Compute what is looked at after training.

    Args:
        module: The module with the weights selected for the fused answer.
        data: The data.
        found: Split -> its answers, features included; ``val`` is needed.
        mode: ``epoch``; ``full`` adds a t-SNE.

    Returns:
        JSON-able numbers, and arrays for pictures: ``label``, and ``pca/<modality>`` (n, 2).
    """
    split = "test" if "test" in found else "val"
    answers, val = found[split], found["val"]
    rows = _rows(answers, val)
    calibrated = {
        name: calibration_of((val.logits[name], val.label), (z, answers.label), rows[name])
        for name, z in answers.logits.items()
        if name in rows
    }
    entropy = {
        name: entropy_bins(z[rows[name][1]], answers.label[rows[name][1]])
        for name, z in answers.logits.items()
        if name in rows
    }
    right = {name: z.argmax(dim=1) == answers.label for name, z in answers.logits.items()}
    for name, has in answers.present.items():
        right[name] = right[name] & has
    numbers: dict[str, Any] = {
        "mode": mode,
        "split": split,
        "agreement": agreement(right),
        "calibration": calibrated,
        "entropy": entropy,
        "fusion": fusion_weights(module, answers, right),
        "gap": _gaps(answers),
        "parameters": _parameters(module),
    }
    if MULTI in module.selections() and len(module.modalities) <= MOST_MODALITIES:
        accuracy = subset_accuracies(module, data, split)
        numbers["shapley"] = shapley_values(accuracy, module.modalities)
        numbers["subsets"] = {"+".join(part): value for part, value in accuracy.items()}
    return numbers, _planes(answers, mode, data.seed)


def calibration_of(
    val: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    rows: tuple[Tensor, Tensor],
) -> dict[str, Any]:
    """Tell calibration before and after the temperature that validation gives.

    Args:
        val: Logits (N, C) and labels (N,) of validation.
        test: The same of the evaluated split.
        rows: Which rows of each count.

    Returns:
        ``temperature``; ``before`` and ``after``: ``width`` and ``mass`` -> bins and error.
    """
    fit = temperature(val[0][rows[0]], val[1][rows[0]])
    found: dict[str, Any] = {"temperature": fit}
    logits, label = test[0][rows[1]], test[1][rows[1]]
    for key, scale in (("before", 1.0), ("after", fit)):
        confidence, answer = (logits.double() / scale).softmax(dim=1).max(dim=1)
        is_right = answer == label
        found[key] = {
            "width": reliability(confidence, is_right).spelled(),
            "mass": reliability(confidence, is_right, equal_mass=True).spelled(),
        }
    return found


def fusion_weights(
    module: MultimodalModule, answers: Answers, right: Mapping[str, Tensor]
) -> dict[str, dict[str, float]]:
    """Compare the fusion's weight of a modality where that modality is right and where it is wrong.

    Args:
        module: The module.
        answers: Its answers.
        right: Modality -> (N,) bool.

    Returns:
        Modality -> ``mean``, ``when_right`` and ``when_wrong`` weight; empty for fusions that have
        no weights. A weight that knows nothing of being right is equal in both.
    """
    if not isinstance(module.fusion, LogitFusion) or MULTI not in module.selections():
        return {}
    own = torch.stack([answers.logits[name] for name in module.modalities])
    present = {name: answers.present[name] for name in module.modalities}
    weights = module.fusion.weights(own, present)
    found = {}
    for row, name in enumerate(module.modalities):
        has, is_right = present[name], right[name]
        groups = {"mean": has, "when_right": has & is_right, "when_wrong": has & ~is_right}
        means = {k: float(weights[row][rows].double().mean()) for k, rows in groups.items()}
        found[name] = {k: value for k, value in means.items() if value == value}
    return found


@torch.no_grad()
def subset_accuracies(
    module: MultimodalModule, data: MultimodalDataModule, split: str
) -> dict[tuple[str, ...], float]:
    """Compute the accuracy with each subset of modalities, the others left out by the fusion.

    Args:
        module: The module.
        data: The data.
        split: The split.

    Returns:
        Subset -> accuracy; the empty one answers training's most frequent class always, as do
        samples that have nothing of a subset.
    """
    prior = int(torch.bincount(data.splits["train"].label).argmax())
    parts = subsets(module.modalities)
    right = dict.fromkeys([(), *parts], 0)
    total = 0
    module.eval()
    for given in data.loader(split):
        batch: Batch = module.transfer_batch_to_device(given, module.device, 0)
        batch = module.converted(batch, draw=False)
        features, label = module.features(batch), batch["label"]
        total += len(label)
        right[()] += int((label == prior).sum())
        for part in parts:
            there = {
                name: has if name in part else torch.zeros_like(has)
                for name, has in batch["present"].items()
            }
            answer = module.answers(features, there)[MULTI].argmax(dim=1)
            some = torch.stack([*there.values()]).any(dim=0)
            right[part] += int((torch.where(some, answer, prior) == label).sum())
    return {part: count / total for part, count in right.items()}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays for pictures, atomically."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        np.savez_compressed(file, **dict(arrays))  # type: ignore[arg-type]
    temporary.replace(path)


def _rows(answers: Answers, val: Answers) -> dict[str, tuple[Tensor, Tensor]]:
    """Tell which samples of both splits have a modality; without those that a split lacks."""
    found = {}
    for name in answers.logits:
        pair = tuple(
            part.present.get(name, torch.ones(len(part.label), dtype=torch.bool))
            for part in (val, answers)
        )
        if all(bool(rows.any()) for rows in pair):
            found[name] = (pair[0], pair[1])
    return found


def _gaps(answers: Answers) -> dict[str, float]:
    names = [name for name in answers.features if bool(answers.present[name].any())]
    return {
        f"{a}/{b}": modality_gap(
            answers.features[a][answers.present[a]], answers.features[b][answers.present[b]]
        )
        for place, a in enumerate(names)
        for b in names[place + 1 :]
        if answers.features[a].shape[1] == answers.features[b].shape[1]
    }


def _parameters(module: MultimodalModule) -> dict[str, int]:
    counts = {
        name: sum(p.numel() for p in encoder.parameters())
        for name, encoder in module.encoders.items()
    }
    counts["fusion"] = sum(p.numel() for p in module.fusion.parameters())
    return counts


def _planes(answers: Answers, mode: str, seed: int) -> dict[str, np.ndarray]:
    widths = {value.shape[1] for value in answers.features.values()}
    if len(widths) != 1 or min(widths) < 2:
        return {}
    count = len(answers.label)
    draw = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    rows = draw[:NUM_DRAWN].sort().values
    some = {name: value[rows] for name, value in answers.features.items()}
    arrays = {"label": answers.label[rows].numpy()}
    arrays |= {f"present/{m}": answers.present[m][rows].numpy() for m in some}
    arrays |= {f"pca/{m}": xy.float().numpy() for m, xy in principal_plane(some).items()}
    if mode == "full":
        arrays |= {f"tsne/{m}": xy.float().numpy() for m, xy in tsne_plane(some, seed).items()}
    return arrays
