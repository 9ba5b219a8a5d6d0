"""One run as reports see it: a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mla_lightning.run_folder import State
from mla_lightning.run_folder.columns import MULTI

__all__ = ["MULTI", "Overrides", "Run", "Score"]

Overrides = tuple[tuple[str, str], ...]
#: Column -> value, such as ``accuracy_percent``; a metric that was not computed has no entry.
Score = dict[str, float]
#: Marks columns of ``results.csv`` that are written only where some run has them.
OPTIONAL = {"optional": True}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One job: what distinguishes it, its state and, if it is finished, its numbers.

    The columns of ``results.csv`` are these fields in this order, with the scores after ``seed``.

    Attributes:
        overrides: What else distinguishes it, as sorted (key, value) texts.
        scores: Split -> modality or ``multi`` -> score; empty unless finished.
        reason: Why it is not finished.
        identity: First characters of its identity; ``code`` and ``data`` likewise.
        missing_percent: Share of the test samples' modalities that was missing, in percent.
        masks: First characters of the masks' hash.
        patterns: What was present -> number of test samples and accuracy in percent, as JSON.
        forgetting: Mean change of a modality's loss by a step on another one, in thousandths, over
            all epochs, momentum of earlier steps included; of runs with diagnostics, as the
            following.
        forgetting_pairs: ``forgetting`` by pair, ``"<step> > <modality>"`` -> mean over epochs, as
            JSON.
        forgetting_own: ``forgetting`` by the step's own gradient alone.
        gradient_cosine: Mean cosine between the modalities' gradients of the shared head.
        projector_trace: Mean eigenvalue of the projectors in the last epoch.
        ece_scaled: Calibration error of the fused prediction after temperature scaling.
        weight_gain: How much larger a modality's weight is where it is right, mean over modalities.
        method_label: How its method is shown, of one that the package does not have.
        stale: Files of the code that changed since it was made, separated by commas.
        metrics: How metrics that the package does not define are shown, as JSON.
        retry: Command that runs it again, as it was given.
        run: Name of its folder.
        where: Where it was read, for messages.
        path: Its folder, None if it was read from a table.
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
    method_label: str = field(default="", metadata=OPTIONAL)
    stale: str = field(default="", metadata=OPTIONAL)
    metrics: str = field(default="", metadata=OPTIONAL)
    retry: str = ""
    run: str
    where: str = field(compare=False)
    path: Path | None = field(default=None, compare=False)

    @property
    def is_finished(self) -> bool:
        """Whether it has numbers."""
        return self.state == State.FINISHED

    @property
    def key(self) -> tuple[object, ...]:
        """What it is a run of: another run of the same is a repetition."""
        return self.name, self.dataset, self.method, self.ablation, self.overrides, self.seed

    @property
    def modalities(self) -> tuple[str, ...]:
        """Its single modalities, in its order."""
        return tuple(dict.fromkeys(m for by in self.scores.values() for m in by if m != MULTI))
