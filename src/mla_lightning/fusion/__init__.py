"""Fusions: modules that turn the features of all modalities into logits, one per file.

A fusion is built as ``SomeFusion(feature_dims, num_classes, ...)``, with the width of each
modality's feature. Calling it gives the fused logits (B, C); its method ``unimodal`` gives each
modality's own logits. Both work for any number of modalities.

Weighted sums of logits
    ``LateFusion`` (one head per modality), ``SharedHead`` (one head for all, MLA), ``Sum``,
    ``EnergyFusion`` (QMF), ``Calibrated`` (PDF).
    ``EnergyFusion`` (QMF), ``Cosine`` (MMCosine).
    ``EnergyFusion`` (QMF), ``Branched`` (a head for all, and branches of each modality, AUG).

Joint heads on features
    ``Concat``, ``ConcatHeads`` (and a head of its own for each modality), ``FiLM``, ``BiGated``.

Transformers
    ``TransformerFusion``: attention among the modalities (SimBaMM), or by bottlenecks (MBT).

Models fitted on their own
    ``LinearModels`` (logistic regression).

Missing modalities
    ``PaddedFusion`` and ``CanonicalFusion`` (mean padding and a support vector classifier),
    ``AutoencodedFusion`` (AE, CRA), ``LatentCodes`` (MMIN), ``InvariantCodes`` (IF-MMIN),
    ``CrossPartial`` (CPM-Nets), ``Tagged`` (TATE).

Base classes
    ``Fusion``, ``LogitFusion``, ``ImaginedFusion``.

Example:
    >>> import torch
    >>> from mla_lightning.fusion import Concat
    >>> fusion = Concat({"audio": 2, "visual": 3}, num_classes=4)
    >>> features = {"audio": torch.randn(5, 2), "visual": torch.randn(5, 3)}
    >>> fusion(features).shape
    torch.Size([5, 4])
    >>> {name: logits.shape for name, logits in fusion.unimodal(features).items()}
    {'audio': torch.Size([5, 4]), 'visual': torch.Size([5, 4])}
"""

from mla_lightning.fusion.base import Fusion, LogitFusion
from mla_lightning.fusion.bigated import BiGated
from mla_lightning.fusion.branched import Branched
from mla_lightning.fusion.calibrated import Calibrated
from mla_lightning.fusion.concat import Concat
from mla_lightning.fusion.concat_heads import ConcatHeads
from mla_lightning.fusion.cosine import Cosine
from mla_lightning.fusion.cross_partial import CrossPartial
from mla_lightning.fusion.energy import EnergyFusion
from mla_lightning.fusion.film import FiLM
from mla_lightning.fusion.imagination import AutoencodedFusion, ImaginedFusion
from mla_lightning.fusion.late import LateFusion
from mla_lightning.fusion.latent_codes import InvariantCodes, LatentCodes
from mla_lightning.fusion.linear_models import LinearModels
from mla_lightning.fusion.padded import CanonicalFusion, PaddedFusion
from mla_lightning.fusion.shared_head import SharedHead
from mla_lightning.fusion.sum import Sum
from mla_lightning.fusion.tagged import Tagged
from mla_lightning.fusion.transformer import TransformerFusion

__all__ = [
    "AutoencodedFusion",
    "BiGated",
    "Branched",
    "Calibrated",
    "CanonicalFusion",
    "Concat",
    "ConcatHeads",
    "Cosine",
    "CrossPartial",
    "EnergyFusion",
    "FiLM",
    "Fusion",
    "ImaginedFusion",
    "InvariantCodes",
    "LateFusion",
    "LatentCodes",
    "LinearModels",
    "LogitFusion",
    "PaddedFusion",
    "SharedHead",
    "Sum",
    "Tagged",
    "TransformerFusion",
]
