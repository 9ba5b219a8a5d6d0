"""One run as reports see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mla_lightning.run_folder import State

MULTI = "multi"

Overrides = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Score:
    """One modality's or the fused prediction's quality on one split.

    Attributes:
        accuracy_percent: Share of right answers, in percent.
        macro_f1_percent: Mean F1 over the classes, in percent.
        ece: Expected calibration error in [0, 1].
        probe_percent: Accuracy of a linear classifier on the encoder's frozen features, in percent;
            None for the fused prediction and where it was not computed.
        macro_recall_percent: Mean over classes of the share answered right, in percent.
        weighted_f1_percent: F1 weighted by how often a class occurs, in percent.
    """

    accuracy_percent: float
    macro_f1_percent: float
    ece: float
    probe_percent: float | None = None
    macro_recall_percent: float | None = None
    weighted_f1_percent: float | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One job: what distinguishes it, its state and, if it is finished, its numbers.

    Attributes:
        run: Name of its folder.
        where: Where it was read, for messages.
        path: Its folder, None if it was read from a table.
        state: See :class:`~mla_lightning.run_folder.State`.
        reason: Why it is not finished.
        retry: Command that runs it again, as it was given.
        overrides: What else distinguishes it, as sorted (key, value) texts.
        scores: Split -> modality or ``multi`` -> score; empty unless finished.
        missing_percent: Share of the test samples' modalities that was missing, in percent.
        masks: First characters of the masks' hash.
        forgetting: Mean change of a modality's loss by a step on another one, in thousandths, over
            all epochs, momentum of earlier steps included; of runs with diagnostics, as the
            following.
        forgetting_own: The same by the step's own gradient alone.
        forgetting_pairs: ``forgetting`` by pair, ``"<step> > <modality>"`` -> mean over epochs, as
            JSON.
        gradient_cosine: Mean cosine between the modalities' gradients of the shared head.
        projector_trace: Mean eigenvalue of the projectors in the last epoch.
        ece_scaled: Calibration error of the fused answer after temperature scaling.
        weight_gain: How much larger a modality's weight is where it is right, mean over modalities.
        patterns: What was there -> number of test samples and accuracy in percent, as JSON.
        identity: First characters of its identity; ``code`` and ``data`` likewise.
    """

    run: str
    where: str = field(compare=False)
    path: Path | None = field(default=None, compare=False)
    state: State
    reason: str = ""
    retry: str = ""
    name: str = ""
    dataset: str = ""
    method: str = ""
    ablation: str = "none"
    overrides: Overrides = ()
    seed: int | None = None
    protocol: str = ""
    data_split: str = ""
    num_train: int | None = None
    num_val: int | None = None
    num_test: int | None = None
    unimodal_rule: str = ""
    epochs: int | None = None
    best_epoch: int | None = None
    lr: float | None = None
    train_time_s: float | None = None
    epoch_time_s: float | None = None
    step_time_s: float | None = None
    peak_memory_mb: float | None = None
    num_parameters: int | None = None
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
    forgetting_own: float | None = None
    forgetting_pairs: str = ""
    gradient_cosine: float | None = None
    projector_trace: float | None = None
    ece_scaled: float | None = None
    weight_gain: float | None = None
    scores: dict[str, dict[str, Score]] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """Whether it has numbers."""
        return self.state == State.FINISHED

    @property
    def cell(self) -> tuple[object, ...]:
        """What it is a run of: another run of the same is a repetition."""
        return self.name, self.dataset, self.method, self.ablation, self.overrides, self.seed

    @property
    def modalities(self) -> tuple[str, ...]:
        """Its single modalities, in its order."""
        return tuple(dict.fromkeys(m for by in self.scores.values() for m in by if m != MULTI))
