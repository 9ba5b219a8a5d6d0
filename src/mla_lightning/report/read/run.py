"""The record of one run that reports are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mla_lightning.run_folder import State
from mla_lightning.run_folder.columns import MULTI

__all__ = ["MULTI", "Overrides", "Run", "Score"]

#: Sorted pairs of key and value.
Overrides = tuple[tuple[str, str], ...]
#: Column such as ``accuracy_percent`` -> value; metrics that were not computed have no entry.
Score = dict[str, float]
#: Metadata of fields that are columns of ``results.csv`` only where a run has them.
OPTIONAL = {"optional": True}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run: its settings, its state and, if it is finished, its results.

    The columns of ``results.csv`` are these fields in this order, with the scores after ``seed``.

    Attributes:
        dataset: Name of the data set; ``method`` and ``ablation`` likewise.
        overrides: Further settings that distinguish it, as sorted pairs of key and value.
        scores: Split -> modality or ``multi`` -> score; empty unless finished.
        state: A state of :class:`mla_lightning.run_folder.State`.
        reason: Why it is not finished.
        identity: First characters of its identity; ``code`` and ``data`` likewise.
        missing_percent: Realised missing rate of the test split, in percent.
        masks: First characters of the masks' hash.
        patterns: Present modalities -> number of test samples and their score by the task's primary
            metric (accuracy in percent), as JSON.
        forgetting: Mean change of a modality's loss by a step on another modality, in thousandths,
            over all epochs, including the momentum of earlier steps. This and the following six
            fields need diagnostics.
        forgetting_pairs: ``forgetting`` by pair, ``"<step> > <modality>"`` -> mean over epochs, as
            JSON.
        forgetting_own: ``forgetting`` by the step's own gradient alone, without momentum.
        gradient_cosine: Mean cosine between the modalities' gradients of the shared head.
        projector_trace: Mean eigenvalue of the projectors in the last epoch.
        ece_scaled: Calibration error of the fused prediction after temperature scaling.
        weight_gain: Fusion weight of a modality where it is correct minus its weight where it
            is not; mean over modalities.
        train_gflop: FLOPs of all training steps, in billions, if they were counted.
        method_label: Label of the method, if it is not one of the package's.
        select_by: Metric by which the epoch was selected; empty for accuracy.
        task: Task of the data set; empty for classification, and for an unfinished run.
        stale: Files of the code that changed since the run, separated by commas.
        metrics: How metrics that the package does not define are shown, as JSON.
        retry: Command that starts it again.
        run: Name of its folder.
        where: Where it was read, for messages.
        path: Its folder; None if it was read from a results table.
    """

    dataset: str = ""
    method: str = ""
    ablation: str = "none"
    overrides: Overrides = ()
    seed: int | None = None
    scores: dict[str, dict[str, Score]] = field(default_factory=dict)
    state: State
    reason: str = ""
    best_epoch: int | None = None
    epochs: int | None = None
    lr: float | None = None
    train_time_s: float | None = None
    epoch_time_s: float | None = None
    step_time_s: float | None = None
    peak_memory_mb: float | None = None
    num_parameters: int | None = None
    protocol: str = ""
    data_split: str = ""
    num_train: int | None = None
    num_val: int | None = None
    num_test: int | None = None
    unimodal_rule: str = ""
    name: str = ""
    identity: str = ""
    code: str = ""
    data: str = ""
    git_commit: str = ""
    versions: str = ""
    device: str = ""
    threads: int | None = None
    missing_percent: float | None = None
    masks: str = ""
    patterns: str = ""
    forgetting: float | None = None
    forgetting_pairs: str = ""
    forgetting_own: float | None = None
    gradient_cosine: float | None = None
    projector_trace: float | None = None
    ece_scaled: float | None = None
    weight_gain: float | None = None
    train_gflop: float | None = field(default=None, metadata=OPTIONAL)
    method_label: str = field(default="", metadata=OPTIONAL)
    select_by: str = field(default="", metadata=OPTIONAL)
    task: str = field(default="", metadata=OPTIONAL)
    stale: str = field(default="", metadata=OPTIONAL)
    metrics: str = field(default="", metadata=OPTIONAL)
    retry: str = ""
    run: str
    where: str = field(compare=False)
    path: Path | None = field(default=None, compare=False)

    @property
    def is_finished(self) -> bool:
        """Return whether the run has results."""
        return self.state == State.FINISHED

    @property
    def key(self) -> tuple[object, ...]:
        """The settings that identify the run; runs with equal keys repeat each other."""
        return self.name, self.dataset, self.method, self.ablation, self.overrides, self.seed

    @property
    def modalities(self) -> tuple[str, ...]:
        """The single modalities, in the order of the scores."""
        return tuple(dict.fromkeys(m for by in self.scores.values() for m in by if m != MULTI))
