"""Diagnostics after training: contribution, fusion weights, calibration, feature geometry."""

from __future__ import annotations

import math
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
from mla_lightning.data.order import Request
from mla_lightning.fusion.base import Fusion
from mla_lightning.metrics.by_task import primary_score
from mla_lightning.metrics.contribution import (
    MAX_MODALITIES,
    shapley_values,
    subsets,
)
from mla_lightning.metrics.geometry import modality_gap, principal_plane, tsne_plane, umap_plane
from mla_lightning.module import MultimodalModule
from mla_lightning.randomness import derive_seed
from mla_lightning.run.class_diagnostics import class_diagnostics, correct_predictions
from mla_lightning.run.evaluate import SplitPredictions
from mla_lightning.run_folder.columns import MULTI

#: Largest number of samples of the fixed batch, of the epochs' probe, and of the planes.
NUM_FIXED, NUM_PROBED, NUM_PLOTTED = 128, 512, 300


def build_epoch_diagnostics(mode: str, data: MultimodalDataModule) -> EpochDiagnostics:
    """Build the callback that measures during training.

    Args:
        mode: ``cost`` for FLOPs alone, ``epoch``, or ``full`` and ``umap`` for more batches and all
            samples.
        data: The data module, after ``setup``.
    """
    if mode == "cost":
        return EpochDiagnostics(mode, None, {}, len(data.train_dataloader()))
    max_samples = NUM_PROBED if mode == "epoch" else None
    # Training samples: on others a change of loss could be overfitting instead of forgetting.
    (fixed,) = sample_batches(data, "train", NUM_FIXED, size=NUM_FIXED)
    probed = {split: sample_batches(data, split, max_samples) for split in ("train", "val")}
    return EpochDiagnostics(mode, fixed, probed, len(data.train_dataloader()))


@dataclass(frozen=True)
class SampledBatches:
    """Batches of selected samples, read again in each iteration.

    Attributes:
        dataset: The data set of the split.
        requests: A request for each batch.
    """

    dataset: Any
    requests: tuple[Request, ...]

    def __iter__(self) -> Iterator[Batch]:
        """Read the batches, one at a time."""
        for request in self.requests:
            yield self.dataset[request]


def sample_batches(
    data: MultimodalDataModule, split: str, max_samples: int | None, size: int = 256
) -> SampledBatches:
    """Select random samples of a split, the same in every epoch of runs with one seed.

    Args:
        data: The data module, after ``setup``.
        split: The split.
        max_samples: Largest number of samples; None for all.
        size: Number of samples of a batch.

    Returns:
        The batches, not augmented.

    Example:
        >>> from mla_lightning.data.synthetic import Synthetic
        >>> data = Synthetic(batch_size=8, num_train=96)
        >>> data.setup()
        >>> [len(batch["label"]) for batch in sample_batches(data, "train", 50, size=20)]
        [20, 20, 10]
    """
    dataset: Any = data.loader(split).dataset
    seed = derive_seed(data.seed, "diagnostics", split)
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
    rows = order[:max_samples].sort().values
    return SampledBatches(dataset, tuple(Request(0, chunk) for chunk in rows.split(size)))


def diagnose(
    module: MultimodalModule,
    data: MultimodalDataModule,
    predictions: Mapping[str, SplitPredictions],
    mode: str,
    uncounted: Collection[str] = (),
    forward: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Compute the diagnostics of a trained module.

    Args:
        module: The module with the weights selected for the fused logits.
        data: The data module.
        predictions: Split -> predictions with features; ``val`` is required.
        mode: ``epoch``; ``full`` adds a t-SNE, ``umap`` also a UMAP.
        uncounted: Names of operations that are not in the FLOPs.
        forward: Context of forward passes, such as the trainer's precision.

    Returns:
        The content of ``diagnostics.json`` for ``test``, or for ``val`` if ``test`` is not
        evaluated; and the arrays of :func:`feature_planes`. Calibration, entropies and agreement
        are those of classes; other tasks do not have them. Shapley values are of the task's primary
        metric, so of an error they are negative where a modality lowers it.
    """
    split = "test" if "test" in predictions else "val"
    evaluated, val = predictions[split], predictions["val"]
    has_classes = module.task.has_classes
    of_classes = class_diagnostics(val, evaluated) if has_classes else {}
    is_correct = correct_predictions(evaluated) if has_classes else {}
    features = at_head(module, evaluated.features)
    numbers: dict[str, Any] = {
        "mode": mode,
        "split": split,
        **of_classes,
        "fusion": fusion_weights(module, evaluated, is_correct, data.eval_batch_size),
        "gap": _gaps(features, evaluated.present),
        "widths": {name: h.shape[1] for name, h in features.items()},
        "parameters": count_parameters(module),
        "uncounted": sorted(uncounted),
    }
    if MULTI in module.selections() and len(module.modalities) <= MAX_MODALITIES:
        with forward():
            scores = subset_scores(module, data, split)
        numbers["shapley"] = shapley_values(scores, module.modalities)
        numbers["subsets"] = {"+".join(subset): value for subset, value in scores.items()}
    return numbers, feature_planes(features, evaluated, mode, data.seed)


def fusion_weights(
    module: MultimodalModule,
    predictions: SplitPredictions,
    is_correct: Mapping[str, Tensor],
    batch_size: int,
) -> dict[str, dict[str, float]]:
    r"""Compare the fusion weight of a modality where its prediction is correct and where it is not.

    With :math:`\lambda_{mn}` the weight of modality m in the fused logits of sample n, compute

    .. math:: \mathrm{mean}\,\{\lambda_{mn} : m \text{ is correct on } n\} \quad\text{and}\quad
        \mathrm{mean}\,\{\lambda_{mn} : m \text{ is wrong on } n\}

    over the samples that have m. They are equal if the weight is independent of correctness, and
    the first is larger if dynamic fusion works as intended (Han et al., ICLR 2021; Zhang et al.,
    ICML 2023). Weights are computed batch by batch as in evaluation, since some rules use
    statistics of the batch.

    Args:
        module: The module.
        predictions: Its predictions, in the order of the evaluation's batches.
        is_correct: Modality -> (N,) bool; empty for tasks without classes, where there is only a
            mean over all samples.
        batch_size: Number of samples of a batch in evaluation.

    Returns:
        Modality -> mean weight over all its samples (``mean``), where it is correct
        (``when_right``) and where it is wrong (``when_wrong``); empty for fusions without weights.
        QMF's weights are confidences that do not sum to 1.

    Example:
        Late Fusion has a constant weight of 1/2 for each of two modalities, whether or not they are
        correct:

        >>> from mla_lightning.config import compose_jobs
        >>> from mla_lightning.run.build import build_data, build_module
        >>> (job,) = compose_jobs(["data=synthetic", "method=late_fusion"])
        >>> module = build_module(job.config, build_data(job.config))
        >>> logits = {m: torch.zeros(2, 4) for m in module.modalities}
        >>> present = {m: torch.ones(2, dtype=torch.bool) for m in logits}
        >>> index = torch.arange(2)
        >>> predictions = SplitPredictions(logits, torch.tensor([0, 1]), index, {}, present)
        >>> is_correct = {m: torch.tensor([True, False]) for m in logits}
        >>> fusion_weights(module, predictions, is_correct, batch_size=2)["audio"]
        {'mean': 0.5, 'when_right': 0.5, 'when_wrong': 0.5}
    """
    if MULTI not in module.selections():
        return {}
    names = module.modalities
    batches = []
    for rows in torch.arange(len(predictions.label)).split(batch_size):
        present = {name: predictions.present[name][rows] for name in names}
        if module.fusion.weighs_by_features:
            weights_MB = _weights_by_features(module.fusion, predictions.features, present, rows)
        else:
            unimodal = {name: predictions.logits[name][rows] for name in names}
            weights_MB = module.fusion.logit_weights(unimodal, present)
        if weights_MB is None:
            return {}
        batches.append(weights_MB)
    weights_MN = torch.cat(batches, dim=1)
    means_by_modality = {}
    for row, name in enumerate(names):
        has = predictions.present[name]
        groups = {"mean": has}
        if is_correct:
            correct = is_correct[name]
            groups |= {"when_right": has & correct, "when_wrong": has & ~correct}
        means = {k: float(weights_MN[row][rows].double().mean()) for k, rows in groups.items()}
        means_by_modality[name] = {k: mean for k, mean in means.items() if not math.isnan(mean)}
    return means_by_modality


@torch.no_grad()
def _weights_by_features(
    fusion: Fusion, features: Mapping[str, Tensor], present: Mapping[str, Tensor], rows: Tensor
) -> Tensor | None:
    like = next(fusion.parameters())  # predictions are on the CPU
    weights_MB = fusion.eval().weights_of(
        {name: h[rows].to(like) for name, h in features.items()},
        {name: has.to(like.device) for name, has in present.items()},
    )
    return None if weights_MB is None else weights_MB.cpu()


@torch.no_grad()
def subset_scores(
    module: MultimodalModule, data: MultimodalDataModule, split: str
) -> dict[tuple[str, ...], float]:
    """Compute the task's primary metric, such as accuracy, with each subset of modalities present.

    The prediction for a sample that has no modality of the subset is the constant one of the
    training split, such as its most frequent class.

    Args:
        module: The module; its fusion leaves out the other modalities.
        data: The data module.
        split: The split.

    Returns:
        Subset -> score; the empty subset is included.
    """
    task = module.task
    constant = task.constant_logits(data.splits["train"].label.to(module.device), data.num_classes)
    non_empty = subsets(module.modalities)
    labels: list[Tensor] = []
    logits: dict[tuple[str, ...], list[Tensor]] = {subset: [] for subset in [(), *non_empty]}
    module.eval()
    for loaded in data.loader(split):
        batch = module.prepare_batch(loaded)
        features = module.features(batch)
        labels.append(batch["label"])
        constants = constant.expand(len(batch["label"]), -1)
        logits[()].append(constants)
        for subset in non_empty:
            present = {
                name: has if name in subset else torch.zeros_like(has)
                for name, has in batch["present"].items()
            }
            fused = module.logits(features, present)[MULTI]
            has_any = torch.stack([*present.values()]).any(dim=0)
            logits[subset].append(torch.where(has_any[:, None], fused, constants.to(fused)))
    label = torch.cat(labels)
    return {
        subset: primary_score(task.name, task.in_target_unit(torch.cat(batches)), label)
        for subset, batches in logits.items()
    }


def _gaps(features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, float]:
    names = [name for name in features if bool(present[name].any())]
    return {
        f"{a}/{b}": modality_gap(features[a][present[a]], features[b][present[b]])
        for a, b in combinations(names, 2)
        if features[a].shape[1] == features[b].shape[1]
    }


def count_parameters(module: MultimodalModule) -> dict[str, int]:
    """Count a module's parameters by owner; each parameter is counted once.

    Args:
        module: The module.

    Returns:
        Modality -> parameters of its encoder and, with a shared head, of the map to the head's
        width; ``fusion``: the rest of the fusion; ``other``: the rest of the method, such as a
        teacher.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> from mla_lightning.run.build import build_data, build_module
        >>> (job,) = compose_jobs(["data=synthetic", "method=mla", "data.num_classes=4"])
        >>> module = build_module(job.config, build_data(job.config))
        >>> count_parameters(module)["fusion"], 4 * 16 + 4  # weights and biases of the head
        (68, 68)
    """
    adapters = getattr(module.fusion, "adapters", {})
    owners: list[tuple[str, Any]] = [*module.encoders.items(), *adapters.items()]
    owners += [("fusion", module.fusion), ("other", module)]
    counts = dict.fromkeys((*module.modalities, "fusion", "other"), 0)
    counted: set[int] = set()
    for name, owner in owners:
        for parameter in owner.parameters():
            if id(parameter) not in counted:
                counted.add(id(parameter))
                counts[name] += parameter.numel()
    return counts


def feature_planes(
    features: Mapping[str, Tensor], predictions: SplitPredictions, mode: str, seed: int
) -> dict[str, np.ndarray]:
    """Project the features of some samples to planes, fitted to the present modalities.

    Args:
        features: Modality -> features (N, D).
        predictions: Labels and presence of the same samples.
        mode: ``full`` adds a t-SNE to the principal components, ``umap`` also a UMAP.
        seed: Seed of the random selection of samples.

    Returns:
        ``label`` (n,), and for each modality ``present/<modality>`` (n,) and ``pca/<modality>``
        (n, 2), NaN where the modality is absent; empty if features differ in width.

    Example:
        >>> features = {m: torch.randn(4, 8) for m in ("audio", "visual")}
        >>> present = {m: torch.ones(4, dtype=torch.bool) for m in features}
        >>> predictions = SplitPredictions({}, torch.zeros(4), torch.arange(4), features, present)
        >>> planes = feature_planes(features, predictions, mode="epoch", seed=0)
        >>> planes["pca/audio"].shape
        (4, 2)
        >>> feature_planes({**features, "visual": torch.randn(4, 5)}, predictions, "epoch", 0)
        {}
    """
    widths = {value.shape[1] for value in features.values()}
    if len(widths) != 1 or min(widths) < 2:
        return {}
    order = torch.randperm(len(predictions.label), generator=torch.Generator().manual_seed(seed))
    rows = order[:NUM_PLOTTED].sort().values
    present = {name: predictions.present[name][rows] for name in features}
    available = {m: h[rows][present[m]] for m, h in features.items() if bool(present[m].any())}
    planes = {"pca": principal_plane(available)}
    if mode in ("full", "umap"):
        planes["tsne"] = tsne_plane(available, seed)
    if mode == "umap":
        planes["umap"] = umap_plane(available, seed)
    arrays = {"label": predictions.label[rows].numpy()}
    arrays |= {f"present/{m}": has.numpy() for m, has in present.items()}
    for kind, plane in planes.items():
        for name, xy in plane.items():
            coordinates = torch.full((len(rows), 2), torch.nan)
            coordinates[present[name]] = xy.float()
            arrays[f"{kind}/{name}"] = coordinates.numpy()
    return arrays
