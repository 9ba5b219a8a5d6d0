"""The mathematics as pure functions of tensors; imports torch and nothing of the package."""

from mla_lightning.functional.correlation import dcca_loss, linear_cca
from mla_lightning.functional.divergence import symmetric_divergence
from mla_lightning.functional.imputation import mean_of_present, padded, reconstruction_loss
from mla_lightning.functional.latent import class_scores, clustering_loss, decoding_loss
from mla_lightning.functional.masks import (
    anchor_mask,
    drop_chances,
    missing_rate_of,
    reachable_rate,
    resample_chance,
    resampled_mask,
    restored_mask,
)
from mla_lightning.functional.modulation import ogm_coefficients, unimodal_scores
from mla_lightning.functional.moments import central_moment_discrepancy
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
from mla_lightning.functional.protection import (
    centred_gradient,
    class_moment,
    mean_moment,
    moment_projector,
    second_moment,
    without_conflict,
)
from mla_lightning.functional.ranking import (
    confidence_rank_loss,
    energy_confidence,
    normalise_history,
)
from mla_lightning.functional.support_vectors import linear_svc
from mla_lightning.functional.weighting import (
    batch_entropy_weights,
    confidence_of_present,
    entropy_weights,
    fixed_weights,
    fuse_logits,
    mean_weights,
)

__all__ = [
    "anchor_mask",
    "balancemm_gradient",
    "batch_entropy_weights",
    "central_moment_discrepancy",
    "centred_gradient",
    "class_moment",
    "class_scores",
    "clustering_loss",
    "confidence_of_present",
    "confidence_rank_loss",
    "dcca_loss",
    "decoding_loss",
    "drop_chances",
    "energy_confidence",
    "entropy_weights",
    "fixed_weights",
    "fuse_logits",
    "linear_cca",
    "linear_svc",
    "mean_moment",
    "mean_of_present",
    "mean_weights",
    "missing_rate_of",
    "moment_projector",
    "normalise_history",
    "ogm_coefficients",
    "padded",
    "project_gradient",
    "projector_of",
    "reachable_rate",
    "reconstruction_loss",
    "released_alpha",
    "resample_chance",
    "resampled_mask",
    "restored_mask",
    "second_moment",
    "symmetric_divergence",
    "unimodal_scores",
    "update_projector",
    "update_projector_",
    "update_projector_frobenius_",
    "update_projector_released_",
    "update_projector_unit_",
    "without_conflict",
]
