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
    Ensembles: ``fuse_probabilities``, ``simplex_grid``.
    Entropies: ``categorical_entropies``, ``bernoulli_entropies``, ``gaussian_entropies``.

Balanced training (OGM-GE, OPM, AGM, QMF, MMCosine)
    ``unimodal_scores``, ``mean_of_others``, ``ogm_coefficients``; ``energy_confidence``,
    ``joint_energy_confidence``, ``normalise_history``, ``confidence_rank_loss``.
    PMR: ``prototype_logits``, ``update_prototypes``, ``graded_coefficients``,
    ``binary_coefficients``. InfoReg: ``information_growth``, ``regulation_strengths``. PDF:
    ``holo_confidence``, ``distribution_uniformity``, ``relative_calibration``,
    ``belief_weights``.

Balanced gradients
    MLB: ``mlb_coefficients``. MMPareto: ``pareto_weight``, ``pareto_gradients``. CGGM:
    ``cggm_coefficients``, ``direction_loss``. AMSS: ``label_entropy``, ``keep_ratios``,
    ``subnetwork_factors``.
    ``opm_drop_probabilities``, ``opm_scale``; ``agm_coefficients``; ``cosine_logits``.
    Contribution of each modality: ``shapley_values``, ``subsets``.

Boosting (AUG, ReconBoost)
    ``residual_cross_entropy``, ``prediction_agreement``, ``modality_behind``.
Frozen unimodal teachers (UMT, G2D, PDMP)
    ``feature_distillation``, ``logit_distillation``, ``learning_modalities``,
    ``dominant_factors``.

Balanced training with held-out samples (G-Blend, Diagnosing & Re-learning, LFM)
    ``blending_weights``; ``scale_columns``, ``k_means``, ``purity``, ``relearning_weights``;
    ``modality_gap``, ``js_divergence``, ``reversed_js_divergence``,
    ``fitted_classification_weight``.
    Contribution of each modality: ``shapley_values``, ``subsets``.

Rows of an epoch (valuation, Remix)
    ``contributions``, ``copies_of``, ``repeated_shares``; ``prediction_certainty``.

Masks of missing modalities
    ``anchor_mask``, ``resampled_mask``, ``restored_mask``, ``dropout_mask``; rates:
    ``max_missing_rate``, ``resampled_drop_probability``, ``restored_drop_probabilities``,
    ``missing_rate``.

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
    from mla_lightning.functional.alignment import (
        fitted_classification_weight,
        js_divergence,
        modality_gap,
        reversed_js_divergence,
    )
    from mla_lightning.functional.belief import (
        belief_weights,
        distribution_uniformity,
        holo_confidence,
        relative_calibration,
    )
    from mla_lightning.functional.blending import blending_weights
    from mla_lightning.functional.boosting import (
        modality_behind,
        prediction_agreement,
        residual_cross_entropy,
    )
    from mla_lightning.functional.certainty import prediction_certainty
    from mla_lightning.functional.clusters import k_means, purity, relearning_weights, scale_columns
    from mla_lightning.functional.correlation import dcca_loss, linear_cca
    from mla_lightning.functional.cosine import cosine_logits
    from mla_lightning.functional.distillation import (
        dominant_factors,
        feature_distillation,
        learning_modalities,
        logit_distillation,
    )
    from mla_lightning.functional.divergence import symmetric_divergence
    from mla_lightning.functional.ensembles import fuse_probabilities, simplex_grid
    from mla_lightning.functional.entropy import (
        bernoulli_entropies,
        categorical_entropies,
        gaussian_entropies,
    )
    from mla_lightning.functional.guidance import cggm_coefficients, direction_loss
    from mla_lightning.functional.imputation import (
        fill_with_mean,
        mean_of_present,
        reconstruction_loss,
    )
    from mla_lightning.functional.information import information_growth, regulation_strengths
    from mla_lightning.functional.latent import class_scores, clustering_loss, decoding_loss
    from mla_lightning.functional.masks import (
        anchor_mask,
        dropout_mask,
        max_missing_rate,
        missing_rate,
        resampled_drop_probability,
        resampled_mask,
        restored_drop_probabilities,
        restored_mask,
    )
    from mla_lightning.functional.modulation import (
        agm_coefficients,
        mean_of_others,
        mlb_coefficients,
        ogm_coefficients,
        opm_drop_probabilities,
        opm_scale,
        unimodal_scores,
    )
    from mla_lightning.functional.moments import central_moment_discrepancy
    from mla_lightning.functional.pareto import pareto_gradients, pareto_weight
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
    from mla_lightning.functional.prototypes import (
        binary_coefficients,
        graded_coefficients,
        prototype_logits,
        update_prototypes,
    )
    from mla_lightning.functional.ranking import (
        confidence_rank_loss,
        energy_confidence,
        joint_energy_confidence,
        normalise_history,
    )
    from mla_lightning.functional.shapley import shapley_values, subsets
    from mla_lightning.functional.subnetworks import keep_ratios, label_entropy, subnetwork_factors
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
    "agm_coefficients",
    "anchor_mask",
    "at_least_single",
    "balancemm_gradient",
    "batch_entropy_weights",
    "belief_weights",
    "bernoulli_entropies",
    "binary_coefficients",
    "blending_weights",
    "categorical_entropies",
    "central_moment_discrepancy",
    "centred_gradient",
    "cggm_coefficients",
    "class_moment",
    "class_scores",
    "clustering_loss",
    "confidence_of_present",
    "confidence_rank_loss",
    "contributions",
    "copies_of",
    "cosine_logits",
    "dcca_loss",
    "decoding_loss",
    "direction_loss",
    "distribution_uniformity",
    "dominant_factors",
    "dropout_mask",
    "energy_confidence",
    "entropy_weights",
    "feature_distillation",
    "fill_with_mean",
    "fitted_classification_weight",
    "fixed_weights",
    "fuse_logits",
    "fuse_probabilities",
    "gaussian_entropies",
    "graded_coefficients",
    "holo_confidence",
    "information_growth",
    "joint_energy_confidence",
    "js_divergence",
    "k_means",
    "keep_ratios",
    "label_entropy",
    "learning_modalities",
    "linear_cca",
    "linear_svc",
    "logit_distillation",
    "max_missing_rate",
    "mean_moment",
    "mean_of_others",
    "mean_of_present",
    "mean_weights",
    "missing_rate",
    "mlb_coefficients",
    "modality_behind",
    "modality_gap",
    "moment_projector",
    "normalise_history",
    "ogm_coefficients",
    "opm_drop_probabilities",
    "opm_scale",
    "pareto_gradients",
    "pareto_weight",
    "prediction_agreement",
    "prediction_certainty",
    "project_gradient",
    "projector_from_means",
    "prototype_logits",
    "purity",
    "reconstruction_loss",
    "regulation_strengths",
    "relative_calibration",
    "relearning_weights",
    "released_alpha",
    "remove_conflict",
    "repeated_shares",
    "resampled_drop_probability",
    "resampled_mask",
    "residual_cross_entropy",
    "restored_drop_probabilities",
    "restored_mask",
    "reversed_js_divergence",
    "scale_columns",
    "second_moment",
    "shapley_values",
    "simplex_grid",
    "subnetwork_factors",
    "subsets",
    "symmetric_divergence",
    "unimodal_scores",
    "update_projector",
    "update_projector_",
    "update_projector_frobenius_",
    "update_projector_released_",
    "update_projector_unit_",
    "update_prototypes",
    "weights_of_entropies",
]
