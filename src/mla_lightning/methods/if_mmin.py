"""IF-MMIN: imagination guided by features that all modalities share."""

from __future__ import annotations

from itertools import combinations
from typing import Unpack

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional import central_moment_discrepancy
from mla_lightning.fusion.latent_codes import InvariantCodes
from mla_lightning.methods.reference import Reference
from mla_lightning.methods.taught import Taught
from mla_lightning.parts import Composition


class IFMMIN(Taught):
    r"""Missing Modality Imagination Network with Invariant Features.

    First, on complete samples, encoders, one map s shared by all modalities, and a classifier on
    specific and invariant features; the invariant ones of any two modalities are drawn together by
    their central moment discrepancy (five moments). Then a cascade imagines what is absent from
    what is present, guided by :math:`c = s(\text{present})`. Loss: cross-entropy +
    :math:`\mathrm{mse}(h^*, h')` + ``invariant_weight`` :math:`\mathrm{mse}(c^*, c)`, h* and c*
    being the frozen copy's on what is absent and on complete samples.

    The released script asks for a weight of 100 by a name that its code does not know; its code's
    own default, 1, is what it runs with, and the default here.
    """

    fusion: InvariantCodes
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
            invariant_weight: Weight of the invariant features' term, >= 0.
            pretrain_epochs: Epochs on complete samples, of trainer.max_epochs.
            recon_target: ``oracle`` or ``observed``.
            **parts: As :class:`~mla_lightning.parts.Composition` names them; the fusion
                must be the invariant codes'.

        Raises:
            ConfigError: If a value is out of range.
        """
        if imagination_weight < 0 or invariant_weight < 0:
            raise ConfigError("method.imagination_weight and invariant_weight must be >= 0")
        super().__init__(pretrain_epochs=pretrain_epochs, recon_target=recon_target, **parts)
        self.imagination_weight, self.invariant_weight = imagination_weight, invariant_weight
        self.add_teacher("shared")

    def pretraining_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Classify complete samples and draw the invariant features together."""
        features, _ = self.encode_known(chunk)
        shared = {name: self.fusion.shared(h) for name, h in features.items()}
        both = torch.cat([*features.values(), *shared.values()], dim=1)
        pairs = list(combinations(shared.values(), 2))
        apart = [central_moment_discrepancy(a, b) for a, b in pairs]
        return {
            "full": cross_entropy(self.fusion.full_classifier(both), chunk["label"]),
            "moments": sum(apart[1:], apart[0]) / len(pairs),
        }

    def taught_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Classify and imagine, with invariant features that a complete sample's would be."""
        features = self.fusion.zero_absent(self.features(chunk), self.parts.presence(chunk))
        h, c = self.fusion.join(features), self.fusion.invariant(features)
        forth, codes = self.fusion.imagination.imagine(h, c)
        shown, known = self.encode_by_teacher(chunk)
        with torch.no_grad():
            whole = torch.cat([self.teacher["shared"](h) for h in shown.values()], dim=1)
        return {
            "joint": cross_entropy(self.fusion.classifier(codes), chunk["label"]),
            "imagination": self.imagination_weight * self.imagination_loss(forth, chunk),
            "invariant": self.invariant_weight * mse_loss(c, self.fill_unknown(whole, c, known)),
        }
