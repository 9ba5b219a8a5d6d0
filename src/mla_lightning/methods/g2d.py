"""G2D: gradient-guided distillation from unimodal teachers, the weaker modality first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Unpack

import torch
from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError, check_choice
from mla_lightning.functional import (
    feature_distillation,
    learning_modalities,
    logit_distillation,
)
from mla_lightning.fusion.late import LateFusion
from mla_lightning.methods.mechanisms.encoder_gradients import (
    is_trained,
    own_parameters,
    scale_gradients,
    selected_parameters,
)
from mla_lightning.methods.mechanisms.scores import BatchScores
from mla_lightning.methods.mechanisms.teachers import WithTeachers
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition

#: When the strength of the modalities is compared.
LEADERS = ("batch", "once")


class G2D(WithTeachers):
    """Gradient-Guided Distillation: imitate unimodal teachers, while strong modalities wait.

    The fused prediction imitates each teacher's, and each encoder's features its teacher's. In the
    first epochs of the student the gradients of the encoders of stronger modalities are zero. With
    two modalities, only the encoder of the less confident teacher learns, then both do. With more,
    the weakest one learns alone, then the second weakest alone, and so on, then all. A modality's
    strength is the sum of its teacher's probabilities of the true classes, for each batch as in the
    released code, or its score on validation (``leader=once``). Momentum and weight decay go on.

    In the released code the first window is 151 of 300 epochs, and three or more modalities are not
    covered; their order is as notes on the paper describe it. By default the windows are half of
    the student's epochs here, in equal parts. Equal strengths switch nothing off, where the
    released code fails; it modulates 4-D parameters alone (``param_filter=conv``) and selects its
    epoch on test.

    Example:
        >>> from functools import partial
        >>> method = G2D(
        ...     encoders={"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ... )
        >>> method.windows_of(12)  # epochs in which the weaker modality learns alone
        [6]
        >>> G2D.check_task("regression")
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: G2D is not for regression: a number has no distribution
        over classes to imitate. Use method=umt.
    """

    follows_task = True
    takes_ranks = True
    takes_incomplete = False
    not_for = {
        "regression": "a number has no distribution over classes to imitate. Use method=umt",
        "multilabel": "labels have no common distribution to imitate. Use method=umt",
    }
    default_fusion = LateFusion
    reference = Reference(
        "G2D: Boosting Multimodal Learning with Gradient-Guided Distillation",
        "ICCV",
        2025,
        "https://arxiv.org/abs/2506.21514",
    )

    def __init__(
        self,
        *,
        logit_weight: float = 1.0,
        feature_weight: float = 1.0,
        temperature: float = 1.0,
        suppress_epochs: int | Sequence[int] | None = None,
        leader: str = "batch",
        param_filter: str = "all",
        teacher_epochs: int | None = None,
        teachers: str | None = None,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            logit_weight: Weight of the imitation of the teachers' predictions, >= 0.
            feature_weight: Weight of the imitation of the teachers' features, >= 0.
            temperature: Temperature of both predictions, > 0.
            suppress_epochs: Length of each of the M - 1 windows, or of the one of two modalities;
                None for half of the student's epochs in equal parts, 0 for no window.
            leader: When strengths are compared: ``batch``, or ``once`` on validation.
            param_filter: Which of an encoder's parameters are switched off: ``all``, ``ndim>=2``
                (no biases), or ``conv`` (4-D only).
            teacher_epochs: Epochs that train the teachers; None for half of all.
            teachers: Folder of a finished run of method=unimodal, in place of such epochs.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If a value is out of range or unknown, there is nothing to imitate, the
                number of windows is not M - 1, encoders share parameters, the filter selects no
                parameter, or all encoders are frozen, unless there are no windows and only
                predictions are imitated.
        """
        if logit_weight < 0 or feature_weight < 0 or logit_weight == feature_weight == 0:
            raise ConfigError(
                "method.logit_weight and method.feature_weight must be >= 0 and not both 0, got "
                f"{logit_weight} and {feature_weight}; without both this is joint "
                "training: use method=sum or method=concat"
            )
        if temperature <= 0:
            raise ConfigError(f"method.temperature must be > 0, got {temperature}")
        check_choice("method.leader", leader, LEADERS)
        super().__init__(teacher_epochs=teacher_epochs, teachers=teachers, **parts)
        self.logit_weight, self.feature_weight = logit_weight, feature_weight
        self.temperature, self.leader = temperature, leader
        given = [suppress_epochs] if isinstance(suppress_epochs, int) else suppress_epochs
        self.suppress_epochs = None if given is None else list(given)
        num_windows = len(self.modalities) - 1
        if given is not None and (len(given) != num_windows or min(given) < 0):
            raise ConfigError(
                f"method.suppress_epochs={suppress_epochs}: {len(self.modalities)} modalities have "
                f"{num_windows} windows, each with its number of epochs >= 0"
            )
        acts = feature_weight > 0 or self.suppress_epochs is None or any(self.suppress_epochs)
        no_windows = str([0] * num_windows if num_windows > 1 else 0).replace(" ", "")
        without = f"method.suppress_epochs={no_windows} with method.feature_weight=0"
        own_parameters(self.encoders, otherwise=without if acts else None)
        self.suppressed: dict[str, list[torch.nn.Parameter]] = {}
        if is_trained(self.encoders):
            otherwise = "distillation without gradient guidance"
            self.suppressed = selected_parameters(self.encoders, param_filter, otherwise)

    def windows_of(self, num_epochs: int) -> list[int]:
        """Return the length of each window of a student of so many epochs.

        Args:
            num_epochs: The student's epochs.

        Returns:
            M - 1 numbers of epochs; earlier windows are longer where equal parts are impossible.
        """
        if self.suppress_epochs is not None:
            return self.suppress_epochs
        number = len(self.modalities) - 1
        return [(num_epochs // 2 + number - 1 - window) // number for window in range(number)]

    def on_train_start(self) -> None:
        """Check that every encoder learns."""
        super().on_train_start()
        num_epochs = self.num_student_epochs
        windows = self.windows_of(num_epochs)
        if sum(windows) >= num_epochs:
            raise ConfigError(
                f"method.suppress_epochs={windows} are all {num_epochs} epochs of the student, so "
                "the encoder of the strongest modality would never learn"
            )

    def start_student(self) -> None:
        """Add a note if the student has no window."""
        if not any(self.windows_of(self.num_student_epochs)):
            self.notes.add("G2D has no window here: all encoders learn from the first epoch.")

    def fit_student(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the joint loss and the distances to the teachers."""
        ends = accumulate(self.windows_of(self.num_student_epochs))
        num_ended = sum(self.student_epoch >= end for end in ends)
        is_suppressed = num_ended < len(self.modalities) - 1
        scores = BatchScores(self.task)
        divergence = partial(logit_distillation, temperature=self.temperature)

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features, taught = self.features(chunk), self.teacher_features(chunk)
            fused, teachers = self.fusion(features), self.teacher_logits(taught)
            if is_suppressed and self.leader == "batch":
                scores.add(teachers, chunk)
            losses = {"joint": self.parts.loss(fused, chunk)}
            if self.logit_weight:
                own = dict.fromkeys(self.modalities, fused)
                of_logits = self.distances(chunk, divergence, own, teachers)
                losses |= {f"logit/{m}": self.logit_weight * d for m, d in of_logits.items()}
            if self.feature_weight:
                of_features = self.distances(chunk, feature_distillation, features, taught)
                losses |= {f"feature/{m}": self.feature_weight * d for m, d in of_features.items()}
            return losses

        def suppress() -> None:
            strength = scores.total() if self.leader == "batch" else self._validation_scores()
            learns = learning_modalities(strength, num_ended)
            scale_gradients(self.suppressed.values(), learns.float())

        return self.step_on(batch, losses_of, edit_grads=suppress if is_suppressed else None)

    def _validation_scores(self) -> Tensor:
        return self.parts.selection.sign * torch.tensor(self.teacher_scores)
