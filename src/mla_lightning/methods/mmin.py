"""MMIN: imagine the features of absent modalities from those present, forth and back."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.fusion.latent_codes import LatentCodes
from mla_lightning.methods.reference import Reference
from mla_lightning.methods.taught import Taught
from mla_lightning.parts import Composition


class MMIN(Taught):
    r"""Missing Modality Imagination Network.

    First encoders and a classifier are trained on complete samples. Then a frozen copy of the
    encoders encodes what is absent, :math:`h^*`; a cascade imagines it from what is present,
    :math:`h' = A_1(h)`, another one imagines back, :math:`h'' = A_2(h')`, and the cascade's codes
    are classified. Loss: cross-entropy + ``imagination_weight`` :math:`\mathrm{mse}(h^*, h')` +
    ``cycle_weight`` :math:`\mathrm{mse}(h, h'')`. Encoders keep training.

    Where nothing hidden is known (``recon_target=observed``) the first term is over what is there.
    """

    fusion: LatentCodes
    default_fusion = LatentCodes
    reference = Reference(
        "Missing Modality Imagination Network for Emotion Recognition with Uncertain Missing "
        "Modalities",
        "ACL",
        2021,
        "https://aclanthology.org/2021.acl-long.203/",
    )

    def __init__(
        self,
        *,
        imagination_weight: float = 4.0,
        cycle_weight: float = 2.0,
        pretrain_epochs: int = 20,
        recon_target: str = "oracle",
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            imagination_weight: Weight of the forward imagination, >= 0.
            cycle_weight: Weight of the backward imagination, >= 0.
            pretrain_epochs: Epochs on complete samples, of trainer.max_epochs.
            recon_target: ``oracle`` or ``observed``.
            **parts: As :class:`~mla_lightning.parts.Composition` names them; the fusion
                must be the latent codes'.

        Raises:
            ConfigError: If a value is out of range.
        """
        if imagination_weight < 0 or cycle_weight < 0:
            raise ConfigError("method.imagination_weight and method.cycle_weight must be >= 0")
        super().__init__(pretrain_epochs=pretrain_epochs, recon_target=recon_target, **parts)
        self.imagination_weight, self.cycle_weight = imagination_weight, cycle_weight
        self.add_teacher()

    def pretraining_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Classify complete samples."""
        joined = self.fusion.join(self.encode_known(chunk)[0])
        return {"full": cross_entropy(self.fusion.full_classifier(joined), chunk["label"])}

    def taught_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Classify, imagine, and imagine back."""
        h = self.fusion.join(self.features(chunk), self.parts.presence(chunk))
        forth, codes = self.fusion.imagination(h)
        back, _ = self.fusion.backward_imagination(forth)
        return {
            "joint": cross_entropy(self.fusion.classifier(codes), chunk["label"]),
            "imagination": self.imagination_weight * self.imagination_loss(forth, chunk),
            "cycle": self.cycle_weight * mse_loss(back, h.detach()),
        }
