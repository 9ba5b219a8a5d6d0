"""ReconBoost: one modality at a time on what the others get wrong, then all together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial, reduce
from operator import add
from typing import Unpack

import torch
from torch import Tensor, nn

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError, near
from mla_lightning.functional import prediction_agreement, residual_cross_entropy
from mla_lightning.fusion.shared_head import SharedHead
from mla_lightning.methods.mechanisms.teachers import WithTeachers
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition
from mla_lightning.run_folder.columns import MULTI

#: Epochs of each part of a turn in the paper, the most that are chosen here.
PUBLISHED = 4
AGREEMENTS = ("none", "both_detached", "own")


class ReconBoost(WithTeachers):
    r"""Alternating boosting of the modalities through one shared head, with rectification.

    Encoders start from those of unimodal models, which are trained first or taken from a run; see
    :class:`~mla_lightning.methods.mechanisms.teachers.WithTeachers`. The head starts anew. Then the
    modalities take turns. In the turn of modality m its encoder and the shared head are trained
    for ``stage_epochs`` on the mean of :math:`-(w_1 - w_2 o_y) \log p_{m,y} / C`, where o =
    softmax(:math:`\beta \sum_{j \ne m} z_j`) is the constant prediction of the others. Then
    everything is trained for ``rectify_epochs`` on the loss of the fused logits
    :math:`\beta \sum_m z_m`, with a learnable number :math:`\beta`. Each of these stages begins
    with a cleared optimiser. Other encoders are in training mode, too, as in the released code. The
    schedule is that of the whole run; the authors divide the learning rate by 10 every 30 turns.
    Weights are selected among those at the end of a turn. Epochs after the last whole turn begin
    one more and are never selected.

    The paper has turns of 4 + 4 epochs. By default both parts are as long as possible, at most 4,
    so that every modality has a turn.

    The released code also computes an agreement between the predictions of m and of the modality
    before it, but takes neither's gradient (``agreement=both_detached``). ``own`` is what it seems
    to mean: :math:`\mathrm{mse}(p_m, p_{m-1})` with :math:`p_{m-1}` constant, from the second turn
    on. The paper's own term is not known here, so there is none by default.

    Example:
        >>> method = ReconBoost(
        ...     encoders={"audio": nn.Linear(3, 4), "visual": nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ... )
        >>> method.fusion.hidden, method.beta
        (Linear(in_features=4, out_features=256, bias=True), Parameter containing:
        tensor(1., requires_grad=True))
        >>> [method.turn_of(stage) for stage in (1, 2, 3, 4, 5)]  # even ones rectify
        ['audio', 'audio', 'visual', 'visual', 'audio']
    """

    fusion: SharedHead
    takes_ranks = True
    takes_incomplete = False
    default_fusion = partial(SharedHead, hidden=256)
    not_for: Mapping[str, str] = {
        "regression": "a turn learns from the probability of one true class. Use method=mla or "
        "method=late_fusion",
        "multilabel": "a turn learns from the probability of one true class. Use method=mla or "
        "method=late_fusion",
        "class_weights": "a turn weights samples by what the other modalities get wrong",
    }
    reference = Reference(
        "ReconBoost: Boosting Can Achieve Modality Reconcilement",
        "ICML",
        2024,
        "https://arxiv.org/abs/2405.09321",
    )

    def __init__(
        self,
        *,
        stage_epochs: int | None = None,
        rectify_epochs: int | None = None,
        label_weight: float = 5.0,
        others_weight: float = 1.0,
        agreement: str = "none",
        agreement_weight: float = 0.5,
        beta: float = 1.0,
        teacher_epochs: int | None = None,
        teachers: str | None = None,
        **parts: Unpack[Composition],
    ) -> None:
        r"""Build the module.

        Args:
            stage_epochs: Epochs on one modality, at least 1; None for the largest number up to 4
                with which every modality has a turn.
            rectify_epochs: Epochs on everything after them, >= 0; None likewise.
            label_weight: :math:`w_1`, weight of the label.
            others_weight: :math:`w_2`, weight of the others' prediction, in [0, w_1).
            agreement: ``none``, ``both_detached`` or ``own``.
            agreement_weight: Weight of the agreement, > 0.
            beta: :math:`\beta` at the start, > 0.
            teacher_epochs: First epochs, which train the unimodal models; None for half of all.
            teachers: Folder of a finished run of method=unimodal, in place of such epochs.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must have one shared head.

        Raises:
            ConfigError: If a value is out of range or a setting would have no effect.
        """
        if (stage_epochs is not None and stage_epochs < 1) or (rectify_epochs or 0) < 0:
            raise ConfigError(
                "method.stage_epochs must be at least 1 and method.rectify_epochs >= 0, got "
                f"{stage_epochs} and {rectify_epochs}"
            )
        if not 0 <= others_weight < label_weight:
            raise ConfigError(
                f"method.others_weight={others_weight} must be >= 0 and below "
                f"method.label_weight={label_weight}: samples would count less than nothing"
            )
        if agreement not in AGREEMENTS:
            raise ConfigError(
                f"method.agreement={agreement!r} is unknown.{near(agreement, AGREEMENTS)} "
                f"Known: {', '.join(AGREEMENTS)}"
            )
        if agreement_weight <= 0 or (agreement == "none" and agreement_weight != 0.5):
            raise ConfigError(
                "method.agreement_weight must be > 0, and has no effect with "
                f"method.agreement=none, got {agreement_weight}"
            )
        if beta <= 0:
            raise ConfigError(f"method.beta must be > 0, got {beta}")
        if "weighting" in getattr(parts.get("fusion"), "keywords", {}):
            raise ConfigError("method.fusion.weighting has no effect on ReconBoost, which has beta")
        super().__init__(teacher_epochs=teacher_epochs, teachers=teachers, **parts)
        if not isinstance(self.fusion, SharedHead):
            raise ConfigError(
                "ReconBoost trains one shared head; use fusion@method.fusion=shared_head"
            )
        self.stage_epochs, self.rectify_epochs = stage_epochs, rectify_epochs
        self.label_weight, self.others_weight = label_weight, others_weight
        self.agreement, self.agreement_weight = agreement, agreement_weight
        self.beta = nn.Parameter(torch.tensor(float(beta)))

    def parts_of_turn(self, num_epochs: int) -> tuple[int, int]:
        """Return the epochs of a turn on one modality, and on everything after them.

        Args:
            num_epochs: The student's epochs.
        """
        given = [n for n in (self.stage_epochs, self.rectify_epochs) if n is not None]
        left, chosen = num_epochs // len(self.modalities) - sum(given), 2 - len(given)
        fitting = max(1, min(PUBLISHED, left // max(1, chosen)))
        stage, rectify = self.stage_epochs, self.rectify_epochs
        return fitting if stage is None else stage, fitting if rectify is None else rectify

    @property
    def turn_epochs(self) -> int:
        """Epochs of a modality's turn, with rectification."""
        return sum(self.parts_of_turn(self.num_student_epochs))

    def stage_of(self, epoch: int) -> int:
        """Return 0 for unimodal training, 1 + 2 t in turn t, 2 + 2 t in its rectification."""
        first = self.num_teacher_epochs(self.trainer.max_epochs or 0)
        if epoch < first:
            return 0
        turn, epoch_of_turn = divmod(epoch - first, self.turn_epochs)
        return 1 + 2 * turn + int(epoch_of_turn >= self.parts_of_turn(self.num_student_epochs)[0])

    def turn_of(self, stage: int) -> str:
        """Return the modality whose turn it is."""
        return self.modalities[(stage - 1) // 2 % len(self.modalities)]

    def start_student(self) -> None:
        """Start from the encoders of the unimodal models."""
        self.encoders.load_state_dict(self.teachers["encoders"].state_dict())

    def trained_in(self, stage: int) -> Iterable[nn.Parameter] | None:
        """Return what a stage trains: a modality's encoder and the shared head, or everything."""
        if stage % 2 == 0:
            return None
        name, parts = self.turn_of(stage), (self.encoders, self.fusion.adapters)
        others = [of_modality[m] for of_modality in parts for m in of_modality if m != name]
        resting = {self.beta, *(p for module in others for p in module.parameters())}
        return [p for p in self.parameters() if p not in resting]

    @property
    def is_selectable(self) -> bool:
        """Return whether the epoch may be selected: at the end of a turn."""
        return super().is_selectable and (self.student_epoch + 1) % self.turn_epochs == 0

    def on_train_start(self) -> None:
        """Check that every modality has a turn."""
        super().on_train_start()
        num_epochs, needed = self.num_student_epochs, len(self.modalities) * self.turn_epochs
        if num_epochs < needed:
            raise ConfigError(
                f"{num_epochs} of trainer.max_epochs={self.trainer.max_epochs} are left for the "
                f"turns of {len(self.modalities)} modalities, which need {needed}: set a larger "
                "trainer.max_epochs, or smaller method.stage_epochs, method.rectify_epochs or "
                "method.teacher_epochs"
            )
        given, parts = (self.stage_epochs, self.rectify_epochs), self.parts_of_turn(num_epochs)
        if any(g is None and n < PUBLISHED for g, n in zip(given, parts, strict=True)):
            self.notes.add(
                f"ReconBoost: turns have {parts[0]} + {parts[1]} epochs, so that every modality "
                f"has one in {num_epochs} epochs; 4 + 4 in the paper"
            )
        if num_epochs % self.turn_epochs:
            self.notes.add(
                f"ReconBoost: the last {num_epochs % self.turn_epochs} epochs are no whole turn, "
                "and cannot be selected"
            )

    def fit_student(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the losses of the stage."""
        is_turn = self.training_stage % 2
        return self.step_on(batch, self.turn_losses if is_turn else self.rectifying_losses)

    def turn_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute the boosting loss of the modality whose turn it is, and the agreement."""
        name, label = self.turn_of(self.training_stage), chunk["label"]
        own = self.fusion.unimodal(self.features(chunk))
        logits = own[name]
        others = self.fused({m: z.detach() for m, z in own.items() if m != name})
        weights = {"weight": self.label_weight, "discount": self.others_weight}
        loss = residual_cross_entropy(logits, others, label, **weights) / self.parts.num_classes
        if self.agreement == "none" or self.training_stage == 1:
            return {name: loss}
        before = self.modalities[self.modalities.index(name) - 1]
        agreeing = logits if self.agreement == "own" else logits.detach()
        agreement = prediction_agreement(agreeing, own[before])
        return {name: loss, "agreement": self.agreement_weight * agreement}

    def rectifying_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute the loss of the fused logits."""
        fused = self.fused(self.fusion.unimodal(self.features(chunk)))
        return {"joint": self.parts.loss(fused, chunk)}

    def fused(self, own_logits: Mapping[str, Tensor]) -> Tensor:
        """Compute the fused logits of some modalities, beta times their sum (B, C)."""
        return self.beta * reduce(add, own_logits.values())

    def logits(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the logits of every reported modality from features."""
        if not bool(self.is_taught):
            return super().logits(features, present)
        own = self.fusion.unimodal(features)
        return {MULTI: self.fused(own), **own}
