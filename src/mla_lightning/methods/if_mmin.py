"""IF-MMIN: imagination of absent features, guided by modality-invariant features."""

from __future__ import annotations

from itertools import combinations
from typing import Unpack

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from mla_lightning import ranks
from mla_lightning.batch import Batch, num_in_batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional import central_moment_discrepancy
from mla_lightning.fusion.latent_codes import InvariantCodes
from mla_lightning.methods.reference import Reference
from mla_lightning.methods.taught import Taught
from mla_lightning.parts import Composition


class IFMMIN(Taught):
    r"""Missing Modality Imagination Network with Invariant Features.

    First, on complete samples, encoders, a map s that all modalities share, and a classifier on
    specific and invariant features are trained; the central moment discrepancy (five moments) of
    the invariant features of every two modalities is minimised. Then a cascade imagines the absent
    features from the present ones, guided by :math:`c = s(\text{present})`. Loss: cross-entropy +
    ``imagination_weight`` :math:`\mathrm{mse}(h^*, h')` + ``invariant_weight``
    :math:`\mathrm{mse}(c^*, c)`, where h* and c* are the frozen copy's features of the absent
    modalities and its invariant features of complete samples.

    The released script sets a weight of 100 under a name that its code does not read, so it runs
    with that code's default, 1, which is also the default here.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> parts = {
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ...     "hides_modalities": True,
        ... }
        >>> encoders = {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)}
        >>> method = IFMMIN(encoders=encoders, **parts)
        >>> list(method.teacher)  # what is frozen for the second stage
        ['encoders', 'shared']
        >>> IFMMIN(encoders={**encoders, "text": torch.nn.Linear(5, 6)}, **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: IF-MMIN has one map for all modalities, so all features
        need the same width, got {'audio': 4, 'visual': 4, 'text': 6}. ...
    """

    fusion: InvariantCodes
    takes_chunks = False  # moments are those of a batch
    follows_task = True
    takes_ranks = True
    default_fusion = InvariantCodes
    reference = Reference(
        "Exploiting Modality-Invariant Feature for Robust Multimodal Emotion Recognition with "
        "Missing Modalities",
        "ICASSP",
        2023,
        "https://arxiv.org/abs/2210.15359",
    )

    def __init__(
        self,
        *,
        imagination_weight: float = 1.0,
        invariant_weight: float = 1.0,
        pretrain_epochs: int = 20,
        recon_target: str = "oracle",
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            imagination_weight: Weight of the imagination, >= 0.
            invariant_weight: Weight of the loss on the invariant features, >= 0.
            pretrain_epochs: Epochs on complete samples, included in trainer.max_epochs.
            recon_target: ``oracle`` or ``observed``.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be the invariant
                codes'.

        Raises:
            ConfigError: If a value is out of range.
        """
        if imagination_weight < 0 or invariant_weight < 0:
            raise ConfigError("method.imagination_weight and invariant_weight must be >= 0")
        super().__init__(pretrain_epochs=pretrain_epochs, recon_target=recon_target, **parts)
        self.imagination_weight, self.invariant_weight = imagination_weight, invariant_weight
        self.add_teacher("shared")

    def pretraining_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute the cross-entropy of complete samples, and the moment discrepancy."""
        specific, _ = self.encode_known(chunk)
        invariant = {name: self.fusion.shared(h) for name, h in specific.items()}
        joined = torch.cat([*specific.values(), *invariant.values()], dim=1)
        pairs = list(combinations(map(ranks.gathered_with_gradient, invariant.values()), 2))
        discrepancies = [central_moment_discrepancy(a, b) for a, b in pairs]
        moments = ranks.once(sum(discrepancies[1:], discrepancies[0]) / len(pairs))
        inverse_fraction = num_in_batch(chunk) / len(chunk["label"])  # they are the whole batch's
        return {
            "full": self.parts.loss(self.fusion.full_classifier(joined), chunk),
            "moments": inverse_fraction * moments,
        }

    def taught_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute the losses of classification, imagination and invariant features."""
        features = self.fusion.zero_absent(self.features(chunk), self.parts.presence(chunk))
        h, c = self.fusion.join(features), self.fusion.invariant(features)
        imagined, codes = self.fusion.imagination.imagine(h, c)
        teacher_features, is_known = self.encode_by_teacher(chunk)
        with torch.no_grad():
            teacher_c = torch.cat(
                [self.teacher["shared"](h) for h in teacher_features.values()], dim=1
            )
        target_c = self.fill_unknown(teacher_c, c, is_known)
        return {
            "joint": self.parts.loss(self.fusion.classifier(codes), chunk),
            "imagination": self.imagination_weight * self.imagination_loss(imagined, chunk),
            "invariant": self.invariant_weight * mse_loss(c, target_c),
        }
