"""What a trained module answers and encodes: contribution, fusion, calibration, geometry."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.callbacks.diagnostics import EpochDiagnostics, at_head
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.data.loading import Request
from mla_lightning.metrics.calibration import entropy_bins, reliability, temperature
from mla_lightning.metrics.contribution import (
    MAX_MODALITIES,
    agreement,
    shapley_values,
    subsets,
)
from mla_lightning.metrics.geometry import modality_gap, principal_plane, tsne_plane
from mla_lightning.module import MultimodalModule
from mla_lightning.randomness import derive_seed
from mla_lightning.run.evaluate import Predictions
from mla_lightning.run_folder.columns import MULTI

#: Samples of the fixed batch, of the epochs' probe, and of the pictures, at most.
NUM_FIXED, NUM_PROBED, NUM_DRAWN = 128, 512, 300


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
    found: Mapping[str, Predictions],
    mode: str,
    uncounted: Collection[str] = (),
    forward: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Compute what is looked at after training.

    Args:
        module: The module with the weights selected for the fused answer.
        data: The data.
        found: Split -> its answers, features included; ``val`` is needed.
        mode: ``epoch``; ``full`` adds a t-SNE.
        uncounted: Operations that the FLOPs leave out.
        forward: Context of forward passes, such as the trainer's precision.

    Returns:
        JSON-able numbers, and arrays for pictures: ``label`` (n,), and for each modality
        ``present/<modality>`` (n,) and ``pca/<modality>`` (n, 2), not a number where it is absent.
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
    features = at_head(module, answers.features)
    numbers: dict[str, Any] = {
        "mode": mode,
        "split": split,
        "agreement": agreement(right),
        "calibration": calibrated,
        "entropy": entropy,
        "fusion": fusion_weights(module, answers, right, data.eval_batch_size),
        "gap": _gaps(features, answers.present),
        "widths": {name: h.shape[1] for name, h in features.items()},
        "parameters": parameters_of(module),
        "uncounted": sorted(uncounted),
    }
    if MULTI in module.selections() and len(module.modalities) <= MAX_MODALITIES:
        with forward():
            accuracy = subset_accuracies(module, data, split)
        numbers["shapley"] = shapley_values(accuracy, module.modalities)
        numbers["subsets"] = {"+".join(part): value for part, value in accuracy.items()}
    return numbers, planes_of(features, answers, mode, data.seed)


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
    module: MultimodalModule, answers: Predictions, right: Mapping[str, Tensor], batch_size: int
) -> dict[str, dict[str, float]]:
    r"""Compare the fusion's weight of a modality where it is right and where it is wrong.

    With :math:`\lambda_{mn}` the weight of modality m in sample n's fused logits,

    .. math:: \mathrm{mean}\,\{\lambda_{mn} : m \text{ is right on } n\} \quad\text{and}\quad
        \mathrm{mean}\,\{\lambda_{mn} : m \text{ is wrong on } n\},

    over the samples that have m. A weight that knows nothing of being right is equal in both: the
    test of what dynamic fusion promises (Han et al., ICLR 2021; Zhang et al., ICML 2023). Weights
    are computed batch by batch as in evaluation, since some rules look at the whole batch.

    Args:
        module: The module.
        answers: Its answers, in the order of the evaluation's batches.
        right: Modality -> (N,) bool.
        batch_size: Samples of a batch of the evaluation.

    Returns:
        Modality -> ``mean``, ``when_right`` and ``when_wrong`` weight; empty for fusions that have
        no weights. QMF's are confidences that do not sum to 1.
    """
    if MULTI not in module.selections():
        return {}
    names = module.modalities
    parts = []
    for rows in torch.arange(len(answers.label)).split(batch_size):
        own = {name: answers.logits[name][rows] for name in names}
        weights = module.fusion.logit_weights(own, {m: answers.present[m][rows] for m in names})
        if weights is None:
            return {}
        parts.append(weights)
    weights_MN = torch.cat(parts, dim=1)
    found = {}
    for row, name in enumerate(names):
        has, is_right = answers.present[name], right[name]
        groups = {"mean": has, "when_right": has & is_right, "when_wrong": has & ~is_right}
        means = {k: float(weights_MN[row][rows].double().mean()) for k, rows in groups.items()}
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
        batch = module.prepare_batch(given)
        features, label = module.features(batch), batch["label"]
        total += len(label)
        right[()] += int((label == prior).sum())
        for part in parts:
            there = {
                name: has if name in part else torch.zeros_like(has)
                for name, has in batch["present"].items()
            }
            answer = module.logits(features, there)[MULTI].argmax(dim=1)
            some = torch.stack([*there.values()]).any(dim=0)
            right[part] += int((torch.where(some, answer, prior) == label).sum())
    return {part: count / total for part, count in right.items()}


def _rows(answers: Predictions, val: Predictions) -> dict[str, tuple[Tensor, Tensor]]:
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


def _gaps(features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, float]:
    names = [name for name in features if bool(present[name].any())]
    return {
        f"{a}/{b}": modality_gap(features[a][present[a]], features[b][present[b]])
        for a, b in combinations(names, 2)
        if features[a].shape[1] == features[b].shape[1]
    }


def parameters_of(module: MultimodalModule) -> dict[str, int]:
    """Count the parameters by what they belong to; they sum to those of the module.

    Args:
        module: The module.

    Returns:
        Modality -> those of its encoder and, with a shared head, of the map to the head's width;
        ``fusion``: the rest of the fusion; ``other``: what else the method has, such as a teacher.
    """
    adapters = getattr(module.fusion, "adapters", {})
    owners: list[tuple[str, Any]] = [*module.encoders.items(), *adapters.items()]
    owners += [("fusion", module.fusion), ("other", module)]
    counts = dict.fromkeys((*module.modalities, "fusion", "other"), 0)
    seen: set[int] = set()
    for name, owner in owners:
        for parameter in owner.parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                counts[name] += parameter.numel()
    return counts


def planes_of(
    features: Mapping[str, Tensor], answers: Predictions, mode: str, seed: int
) -> dict[str, np.ndarray]:
    """Draw some samples' features into planes that are fitted to what is there.

    Args:
        features: Modality -> (N, D).
        answers: Labels and presence of the same samples.
        mode: ``full`` for a t-SNE, too.
        seed: Draws the samples.

    Returns:
        As :func:`diagnose` says; empty where widths differ.
    """
    widths = {value.shape[1] for value in features.values()}
    if len(widths) != 1 or min(widths) < 2:
        return {}
    draw = torch.randperm(len(answers.label), generator=torch.Generator().manual_seed(seed))
    rows = draw[:NUM_DRAWN].sort().values
    there = {name: answers.present[name][rows] for name in features}
    some = {m: h[rows][there[m]] for m, h in features.items() if bool(there[m].any())}
    planes = {"pca": principal_plane(some)}
    if mode == "full":
        planes["tsne"] = tsne_plane(some, seed)
    arrays = {"label": answers.label[rows].numpy()}
    arrays |= {f"present/{m}": has.numpy() for m, has in there.items()}
    for kind, plane in planes.items():
        for name, xy in plane.items():
            whole = torch.full((len(rows), 2), torch.nan)
            whole[there[name]] = xy.float()
            arrays[f"{kind}/{name}"] = whole.numpy()
    return arrays
