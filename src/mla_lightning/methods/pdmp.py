"""PDMP: the modality that performs best alone leads."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional import dominant_factors
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.mechanisms.encoder_gradients import own_parameters, scale_gradients
from mla_lightning.methods.mechanisms.teachers import WithTeachers
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition


class PDMP(WithTeachers):
    """Performance-Dominant Modality Prioritisation: larger gradients for the best modality.

    A model of each modality alone is trained first. In the joint training that follows, the
    gradient of the encoder of the modality whose model is the best on validation is multiplied by
    ``dominant``, and that of all others by ``others``. Of the models only their order is used. It
    is the opposite of methods that balance modalities.

    No code of the authors was found. The paper tunes both factors for each data set, and their
    values are not known: 1.5 and 0.7 are a choice of this package. The rule for three and more
    modalities, the best one against all others, rests on notes of others on the paper.
    Optimisers that divide gradients by their size, such as Adam, nearly
    cancel constant factors: use SGD.

    Example:
        >>> from functools import partial
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> PDMP(**parts).num_teacher_epochs(20)  # the first half trains the unimodal models
        10
        >>> PDMP(dominant=0.7, others=1.5, **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.dominant=0.7 is smaller than method.others=1.5,
        which would balance the modalities. Use method=ogm_ge, or a larger method.dominant.
    """

    follows_task = True
    takes_ranks = True
    default_fusion = Concat
    reference = Reference(
        "Rethinking Balanced Multimodal Learning via Performance-Dominant Modality Prioritization",
        "arXiv",
        2026,
        "https://arxiv.org/abs/2604.05773",
    )

    def __init__(
        self,
        *,
        dominant: float = 1.5,
        others: float = 0.7,
        teacher_epochs: int | None = None,
        teachers: str | None = None,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            dominant: Factor of the gradient of the best modality's encoder.
            others: Factor of the gradients of all other encoders, >= 0, at most ``dominant``.
            teacher_epochs: Epochs that train the unimodal models; None for half of all.
            teachers: Folder of a finished run of method=unimodal, in place of such epochs.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If a factor is negative, the factors are 1, ``dominant`` is the smaller, or
                encoders share parameters or are all frozen.
        """
        if others < 0:
            raise ConfigError(f"method.others must be >= 0, got {others}")
        if dominant < others:
            raise ConfigError(
                f"method.dominant={dominant} is smaller than method.others={others}, which would "
                "balance the modalities. Use method=ogm_ge, or a larger method.dominant."
            )
        if dominant == others == 1:
            raise ConfigError("method.dominant and method.others are 1: use method=concat")
        super().__init__(teacher_epochs=teacher_epochs, teachers=teachers, **parts)
        self.dominant, self.others = dominant, others
        self.scaled = own_parameters(self.encoders, otherwise="method=concat")

    def start_student(self) -> None:
        """Add a note if several models are the best."""
        scores = self._scores()
        if int((scores == scores.max()).sum()) > 1:
            first = self.modalities[int(scores.argmax())]
            self.notes.add(f"Several unimodal models were the best on validation; {first} leads.")

    def fit_student(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the joint loss, with scaled gradients of the encoders."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            fused = self.fusion(self.features(chunk), self.parts.presence(chunk))
            return {"joint": self.parts.loss(fused, chunk)}

        def prioritise() -> None:
            factors = dominant_factors(self._scores(), self.dominant, self.others)
            scale_gradients(self.scaled.values(), factors.tolist())

        return self.step_on(batch, losses_of, edit_grads=prioritise)

    def _scores(self) -> Tensor:
        return self.parts.selection.sign * torch.tensor(self.teacher_scores, dtype=torch.float64)
