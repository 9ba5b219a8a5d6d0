"""The mathematics as pure functions of tensors; imports torch and nothing of the package."""

from mla_lightning.functional.modulation import ogm_coefficients, unimodal_scores
from mla_lightning.functional.projection import (
    balancemm_gradient,
    project_gradient,
    projector_of,
    released_alpha,
    update_projector,
    update_projector_,
    update_projector_frobenius_,
    update_projector_released_,
    update_projector_unit_,
)
from mla_lightning.functional.ranking import (
    confidence_rank_loss,
    energy_confidence,
    normalise_history,
)
from mla_lightning.functional.weighting import (
    batch_entropy_weights,
    entropy_weights,
    fixed_weights,
    fuse_logits,
    mean_weights,
)

__all__ = [
    "balancemm_gradient",
    "batch_entropy_weights",
    "confidence_rank_loss",
    "energy_confidence",
    "entropy_weights",
    "fixed_weights",
    "fuse_logits",
    "mean_weights",
    "normalise_history",
    "ogm_coefficients",
    "project_gradient",
    "projector_of",
    "released_alpha",
    "unimodal_scores",
    "update_projector",
    "update_projector_",
    "update_projector_frobenius_",
    "update_projector_released_",
    "update_projector_unit_",
]
