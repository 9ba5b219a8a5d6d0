"""Metrics and measurements of fused and single modalities' logits, features and gradients.

Nothing here needs a run: functions take logits, labels, features or gradients.

As functions of an ``Outcome``
    Classification: ``accuracy``, ``macro_f1``, ``macro_recall``, ``weighted_f1``, ``ece``. Several
    labels: ``micro_f1``, ``macro_f1``, ``mean_ap``. Regression: ``mae``, ``correlation``, ``r2``;
    of sentiment ``acc2``, ``f1_2``, ``acc5``, ``acc7``.

    ``Metric`` adds the format in tables. ``Evaluation`` collects logits batch by batch,
    ``score_logits`` computes metrics of several modalities.

Calibration
    ``reliability``, ``Reliability``, ``temperature``, ``entropy_bins``.

Contribution of each modality
    ``shapley_values``, ``subsets``, ``agreement``.

Frozen encoders and their features
    Ridge probe: ``ridge_probe``, ``Probe``, ``probe_scores``. Geometry: ``modality_gap``,
    ``principal_plane``, ``tsne_plane``, ``umap_plane``.

Training steps
    ``TrainingLosses``, ``StepFlops``, ``losses_and_scores``, ``gradient_cosines``,
    ``projector_state``.

Example:
    >>> import torch
    >>> from mla_lightning.metrics import Outcome, accuracy, macro_recall
    >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    >>> outcome = Outcome(logits, label=torch.tensor([0, 0, 0, 1]))
    >>> accuracy(outcome).item(), macro_recall(outcome).item()
    (0.75, 0.5)
"""

from mla_lightning.metrics.base import Metric
from mla_lightning.metrics.calibration import (
    Reliability,
    entropy_bins,
    reliability,
    temperature,
)
from mla_lightning.metrics.classification import (
    accuracy,
    ece,
    macro_f1,
    macro_recall,
    weighted_f1,
)
from mla_lightning.metrics.contribution import agreement, shapley_values, subsets
from mla_lightning.metrics.evaluation import Evaluation, score_logits
from mla_lightning.metrics.flops import StepFlops
from mla_lightning.metrics.forgetting import (
    gradient_cosines,
    losses_and_scores,
    projector_state,
)
from mla_lightning.metrics.geometry import modality_gap, principal_plane, tsne_plane, umap_plane
from mla_lightning.metrics.losses import TrainingLosses
from mla_lightning.metrics.multilabel import mean_ap, micro_f1
from mla_lightning.metrics.outcome import Outcome
from mla_lightning.metrics.probe import Probe, probe_scores, ridge_probe
from mla_lightning.metrics.regression import acc2, acc5, acc7, correlation, f1_2, mae, r2

__all__ = [
    "Evaluation",
    "Metric",
    "Outcome",
    "Probe",
    "Reliability",
    "StepFlops",
    "TrainingLosses",
    "acc2",
    "acc5",
    "acc7",
    "accuracy",
    "agreement",
    "correlation",
    "ece",
    "entropy_bins",
    "f1_2",
    "gradient_cosines",
    "losses_and_scores",
    "macro_f1",
    "macro_recall",
    "mae",
    "mean_ap",
    "micro_f1",
    "modality_gap",
    "principal_plane",
    "probe_scores",
    "projector_state",
    "r2",
    "reliability",
    "ridge_probe",
    "score_logits",
    "shapley_values",
    "subsets",
    "temperature",
    "tsne_plane",
    "umap_plane",
    "weighted_f1",
]
