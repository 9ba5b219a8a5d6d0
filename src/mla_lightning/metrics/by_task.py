"""The metrics of each task that epochs are compared and selected by."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from mla_lightning.metrics.classification import accuracy, ece, macro_f1, macro_recall
from mla_lightning.metrics.multilabel import mean_ap, micro_f1
from mla_lightning.metrics.outcome import Outcome
from mla_lightning.metrics.regression import correlation, mae
from mla_lightning.run_folder.tasks import CLASSIFICATION, MULTILABEL, PRIMARY, REGRESSION

#: Task -> name in ``result.json`` -> the metric, for all that can select an epoch.
FUNCTIONS: Mapping[str, Mapping[str, Callable[[Outcome], Tensor]]] = {
    CLASSIFICATION: {"accuracy": accuracy, "macro_f1": macro_f1, "macro_recall": macro_recall},
    REGRESSION: {"mae": mae, "correlation": correlation},
    MULTILABEL: {"micro_f1": micro_f1, "macro_f1": macro_f1, "mean_ap": mean_ap},
}
#: Task -> column of ``metrics.csv`` -> metric; by default these are computed after every epoch.
EPOCH_METRICS: Mapping[str, Mapping[str, Callable[[Outcome], Tensor]]] = {
    CLASSIFICATION: {"acc": accuracy, "f1_macro": macro_f1, "ece": ece},
    REGRESSION: {"mae": mae, "correlation": correlation},
    MULTILABEL: {"f1_micro": micro_f1, "f1_macro": macro_f1, "mean_ap": mean_ap},
}


def primary_score(task: str, logits: Tensor, label: Tensor) -> float:
    """Compute the metric by which runs of a task are compared.

    Args:
        task: The task.
        logits: Logits (N, C), in the target's own unit.
        label: Labels (N,), or (N, L) of several labels.

    Example:
        >>> import torch
        >>> primary_score("regression", torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, 4.0]))
        1.5
    """
    return float(FUNCTIONS[task][PRIMARY[task].metric](Outcome(logits, label)))
