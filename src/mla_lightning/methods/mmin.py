"""MMIN: features of absent modalities are imagined from the present ones, forward and backward."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor
from torch.nn.functional import mse_loss

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.fusion.latent_codes import LatentCodes
from mla_lightning.methods.reference import Reference
from mla_lightning.methods.taught import Taught
from mla_lightning.parts import Composition


class MMIN(Taught):
    r"""Missing Modality Imagination Network.

    First, encoders and a classifier are trained on complete samples. Then a frozen copy of the
    encoders encodes the absent modalities, :math:`h^*`. A cascade imagines these features from the
    present ones, :math:`h' = A_1(h)`, a second one imagines back, :math:`h'' = A_2(h')`, and the
    codes of the first are classified. Loss: cross-entropy + ``imagination_weight``
    :math:`\mathrm{mse}(h^*, h')` + ``cycle_weight`` :math:`\mathrm{mse}(h, h'')`. The encoders are
    trained in both stages.

    With ``recon_target=observed``, where hidden inputs are not known, :math:`h^*` encodes the
    present modalities.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> method = MMIN(
        ...     encoders={"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ...     hides_modalities=True,
        ... )
        >>> imagined, codes = method.fusion.imagination(torch.randn(6, 4 + 4))
        >>> imagined.shape, codes.shape  # the codes of 5 blocks are classified
        (torch.Size([6, 8]), torch.Size([6, 320]))
        >>> any(parameter.requires_grad for parameter in method.teacher.parameters())
        False
    """

    fusion: LatentCodes
    follows_task = True
    takes_ranks = True
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
            pretrain_epochs: Epochs on complete samples, included in trainer.max_epochs.
            recon_target: ``oracle`` or ``observed``.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be the latent codes'.

        Raises:
            ConfigError: If a value is out of range.
        """
        if imagination_weight < 0 or cycle_weight < 0:
            raise ConfigError("method.imagination_weight and method.cycle_weight must be >= 0")
        super().__init__(pretrain_epochs=pretrain_epochs, recon_target=recon_target, **parts)
        self.imagination_weight, self.cycle_weight = imagination_weight, cycle_weight
        self.add_teacher()

    def pretraining_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute the cross-entropy of complete samples."""
        joined = self.fusion.join(self.encode_known(chunk)[0])
        return {"full": self.parts.loss(self.fusion.full_classifier(joined), chunk)}

    def taught_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute the losses of classification, forward and backward imagination."""
        h = self.fusion.join(self.features(chunk), self.parts.presence(chunk))
        imagined, codes = self.fusion.imagination(h)
        imagined_back, _ = self.fusion.backward_imagination(imagined)
        return {
            "joint": self.parts.loss(self.fusion.classifier(codes), chunk),
            "imagination": self.imagination_weight * self.imagination_loss(imagined, chunk),
            "cycle": self.cycle_weight * mse_loss(imagined_back, h.detach()),
        }
