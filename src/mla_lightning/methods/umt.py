"""UMT: the encoders imitate the features of frozen unimodal teachers."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional import feature_distillation
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.mechanisms.encoder_gradients import own_parameters
from mla_lightning.methods.mechanisms.teachers import WithTeachers
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition


class UMT(WithTeachers):
    """Uni-Modal Teacher: joint training, with features close to those of unimodal models.

    Joint training learns worse features of a modality than training on this modality alone. So a
    model of each modality is trained first, and the loss of joint training gets the squared
    distance of each encoder's features to those of its teacher, the mean over samples that have the
    modality and over features, times ``distill_weight``.

    No code of the authors was found: the loss is that of BalanceBenchmark's code, as the abstracts
    of the paper describe it. The value of the weight in the paper is not known; 10 is that of this
    code. The teachers see the same batches as the student, augmented in the same way. The paper's
    own alternative, an ensemble of the unimodal models (UME), is ``method=ensemble``.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> method = UMT(**parts)
        >>> batch = {"inputs": {"audio": torch.zeros(6, 3), "visual": torch.zeros(6, 5)}}
        >>> features, taught = method.features(batch), method.teacher_features(batch)
        >>> torch.equal(features["audio"], taught["audio"])  # before anything is trained
        True
        >>> UMT(distill_weight=0.0, **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.distill_weight must be > 0, got 0.0; without
        teachers this is method=concat
    """

    follows_task = True
    takes_ranks = True
    default_fusion = Concat
    reference = Reference(
        "On Uni-Modal Feature Learning in Supervised Multi-Modal Learning",
        "ICML",
        2023,
        "https://arxiv.org/abs/2305.01233",
    )

    def __init__(
        self,
        *,
        distill_weight: float = 10.0,
        teacher_epochs: int | None = None,
        teachers: str | None = None,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            distill_weight: Weight of the distance of the features, > 0.
            teacher_epochs: Epochs that train the teachers; None for half of all.
            teachers: Folder of a finished run of method=unimodal, in place of such epochs.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If a value is out of range, or encoders share parameters or are all frozen,
                so that their features are those of the teachers.
        """
        if distill_weight <= 0:
            raise ConfigError(
                f"method.distill_weight must be > 0, got {distill_weight}; without teachers this "
                "is method=concat"
            )
        super().__init__(teacher_epochs=teacher_epochs, teachers=teachers, **parts)
        self.distill_weight = distill_weight
        own_parameters(self.encoders, otherwise="method=concat")

    def fit_student(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the joint loss and the distances to the teachers' features."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            fused = self.fusion(features, self.parts.presence(chunk))
            taught = self.teacher_features(chunk)
            distances = self.distances(chunk, feature_distillation, features, taught)
            distilled = {f"feature/{m}": self.distill_weight * d for m, d in distances.items()}
            return {"joint": self.parts.loss(fused, chunk), **distilled}

        return self.step_on(batch, losses_of)
