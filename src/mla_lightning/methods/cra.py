"""CRA: cascaded residual autoencoders reconstruct concatenated features."""

from __future__ import annotations

from typing import Unpack

from mla_lightning.methods.ae import AE
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition


class CRA(AE):
    """AE with a cascade of residual autoencoders in place of one autoencoder.

    As in GCNet's comparison; the original cascades on raw features and is first trained greedily.
    The cascade is the fusion's: give it ``num_blocks``, since it builds one autoencoder without.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from mla_lightning.fusion import AutoencodedFusion
        >>> method = CRA(
        ...     encoders={"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ...     fusion=partial(AutoencodedFusion, num_blocks=3),
        ...     recon_target="observed",
        ... )
        >>> len(method.fusion.imagination.encoders)  # of the cascade
        3
    """

    reference = Reference(
        "Missing Modalities Imputation via Cascaded Residual Autoencoder",
        "CVPR",
        2017,
        "https://openaccess.thecvf.com/content_cvpr_2017/html/"
        "Tran_Missing_Modalities_Imputation_CVPR_2017_paper.html",
    )

    def __init__(
        self,
        *,
        weight: float = 0.01,
        recon_target: str = "oracle",
        hidden: tuple[int, ...] = (128, 128),
        dropout: float = 0.5,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module; see :class:`AE`."""
        super().__init__(
            weight=weight, recon_target=recon_target, hidden=hidden, dropout=dropout, **parts
        )
