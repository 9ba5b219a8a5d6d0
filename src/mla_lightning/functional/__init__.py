"""The mathematics of the methods as pure functions of tensors.

Nothing here needs the rest of the package: all functions take and return tensors or numbers, and
only those whose name ends in ``_`` change an argument. Shapes are (M, B, C) for the logits of M
modalities, B samples and C classes, and (B, D) or (N, D) for features.

Gradient of a shared head (MLA)
    Projector: ``update_projector``, ``update_projector_``, ``projector_from_means``; variants:
    ``update_projector_frobenius_``, ``update_projector_unit_``, ``update_projector_released_``,
    ``released_alpha``. Gradient: ``project_gradient``, ``balancemm_gradient``.
    Alternatives: ``mean_moment``, ``second_moment``, ``class_moment``, ``moment_projector``,
    ``remove_conflict``, ``centred_gradient``.

Weights of the modalities and fused logits
    ``entropy_weights``, ``batch_entropy_weights``, ``mean_weights``, ``fixed_weights``,
    ``weights_of_entropies``, ``confidence_of_present``, ``fuse_logits``; ``at_least_single``.
    Entropies: ``categorical_entropies``, ``bernoulli_entropies``, ``gaussian_entropies``.

Balanced training (OGM-GE, QMF)
    ``unimodal_scores``, ``mean_of_others``, ``ogm_coefficients``; ``energy_confidence``,
    ``joint_energy_confidence``, ``normalise_history``, ``confidence_rank_loss``.
    Contribution of each modality: ``shapley_values``, ``subsets``.

Rows of an epoch (valuation, Remix)
    ``contributions``, ``copies_of``, ``repeated_shares``; ``prediction_certainty``.

Masks of missing modalities
    ``anchor_mask``, ``resampled_mask``, ``restored_mask``; rates: ``max_missing_rate``,
    ``resampled_drop_probability``, ``restored_drop_probabilities``, ``missing_rate``.

Learning with missing modalities
    Imputation: ``mean_of_present``, ``fill_with_mean``, ``reconstruction_loss``. CPM-Nets:
    ``class_scores``, ``clustering_loss``, ``decoding_loss``. Correlation and distances:
    ``linear_cca``, ``dcca_loss``, ``central_moment_discrepancy``, ``symmetric_divergence``.
    Classifier: ``linear_svc``.

Example:
    Fuse the logits of two modalities by their entropies. The first one is certain, so it has the
    larger weight:

    >>> import torch
    >>> from mla_lightning.functional import entropy_weights, fuse_logits
    >>> logits = torch.tensor([[[100.0, 0.0]], [[0.0, 0.0]]])
    >>> weights = entropy_weights(logits)
    >>> weights.T
    tensor([[0.6667, 0.3333]])
    >>> fuse_logits(weights, logits)
    tensor([[66.6667,  0.0000]])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mla_lightning.identity.public_names import import_public_name

# For type checkers and for the record of a run's code, which leaves out blocks of TYPE_CHECKING
# alone. Names are imported when they are first used, so that this package needs no torch.
if TYPE_CHECKING or False:
    from mla_lightning.functional.certainty import prediction_certainty
    from mla_lightning.functional.correlation import dcca_loss, linear_cca
    from mla_lightning.functional.divergence import symmetric_divergence
    from mla_lightning.functional.entropy import (
        bernoulli_entropies,
        categorical_entropies,
        gaussian_entropies,
    )
    from mla_lightning.functional.imputation import (
        fill_with_mean,
        mean_of_present,
        reconstruction_loss,
    )
    from mla_lightning.functional.latent import class_scores, clustering_loss, decoding_loss
    from mla_lightning.functional.masks import (
        anchor_mask,
        max_missing_rate,
        missing_rate,
        resampled_drop_probability,
        resampled_mask,
        restored_drop_probabilities,
        restored_mask,
    )
    from mla_lightning.functional.modulation import (
        mean_of_others,
        ogm_coefficients,
        unimodal_scores,
    )
    from mla_lightning.functional.moments import central_moment_discrepancy
    from mla_lightning.functional.precision import at_least_single
    from mla_lightning.functional.projection import (
        balancemm_gradient,
        project_gradient,
        projector_from_means,
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
        remove_conflict,
        second_moment,
    )
    from mla_lightning.functional.ranking import (
        confidence_rank_loss,
        energy_confidence,
        joint_energy_confidence,
        normalise_history,
    )
    from mla_lightning.functional.shapley import shapley_values, subsets
    from mla_lightning.functional.support_vectors import linear_svc
    from mla_lightning.functional.valuation import contributions, copies_of, repeated_shares
    from mla_lightning.functional.weighting import (
        batch_entropy_weights,
        confidence_of_present,
        entropy_weights,
        fixed_weights,
        fuse_logits,
        mean_weights,
        weights_of_entropies,
    )
else:

    def __getattr__(name: str) -> Any:
        return import_public_name(__name__, name)

    def __dir__() -> list[str]:
        return sorted([*globals(), *__all__])


__all__ = [
    "anchor_mask",
    "at_least_single",
    "balancemm_gradient",
    "batch_entropy_weights",
    "bernoulli_entropies",
    "categorical_entropies",
    "central_moment_discrepancy",
    "centred_gradient",
    "class_moment",
    "class_scores",
    "clustering_loss",
    "confidence_of_present",
    "confidence_rank_loss",
    "contributions",
    "copies_of",
    "dcca_loss",
    "decoding_loss",
    "energy_confidence",
    "entropy_weights",
    "fill_with_mean",
    "fixed_weights",
    "fuse_logits",
    "gaussian_entropies",
    "joint_energy_confidence",
    "linear_cca",
    "linear_svc",
    "max_missing_rate",
    "mean_moment",
    "mean_of_others",
    "mean_of_present",
    "mean_weights",
    "missing_rate",
    "moment_projector",
    "normalise_history",
    "ogm_coefficients",
    "prediction_certainty",
    "project_gradient",
    "projector_from_means",
    "reconstruction_loss",
    "released_alpha",
    "remove_conflict",
    "repeated_shares",
    "resampled_drop_probability",
    "resampled_mask",
    "restored_drop_probabilities",
    "restored_mask",
    "second_moment",
    "shapley_values",
    "subsets",
    "symmetric_divergence",
    "unimodal_scores",
    "update_projector",
    "update_projector_",
    "update_projector_frobenius_",
    "update_projector_released_",
    "update_projector_unit_",
    "weights_of_entropies",
]
