"""Double precision is kept, half precision is promoted: every public function of tensors."""

import math

import numpy as np
import pytest
import torch

from mla_lightning import functional as F
from mla_lightning.fusion.late import LateFusion
from mla_lightning.methods.head.rules import HeadStep

RNG = torch.Generator().manual_seed(0)
LOGITS_MBC = torch.randn(3, 6, 4, generator=RNG, dtype=torch.float64)
PRESENT_MB = torch.ones(3, 6, dtype=torch.bool)
PRESENT_MB[0, 1] = PRESENT_MB[1, 2] = PRESENT_MB[2, 2] = False
TCP_MB = LOGITS_MBC[..., 0].sigmoid()
LABEL_B = torch.tensor([0, 1, 2, 3, 0, 1])
X_BD, Y_BD = torch.randn(2, 40, 3, generator=RNG, dtype=torch.float64)
PLANE_DD = F.projector_from_means(X_BD[:2], 0.3)
HAS_B = torch.arange(40) % 3 > 0
CLASS_B = torch.arange(40) % 4
#: Name -> call of the function on numbers whose result single precision cannot represent.
CALLS = {
    "agm_coefficients": lambda: F.agm_coefficients(X_BD[:, 0].exp(), Y_BD[:, 0].exp(), 0.3),
    "at_least_single": lambda: F.at_least_single(X_BD),
    "balancemm_gradient": lambda: F.balancemm_gradient(Y_BD, PLANE_DD),
    "batch_entropy_weights": lambda: F.batch_entropy_weights(LOGITS_MBC, PRESENT_MB),
    "belief_weights": lambda: F.belief_weights(TCP_MB, PRESENT_MB, TCP_MB),
    "blending_weights": lambda: F.blending_weights(*X_BD[:4].exp()),
    "bernoulli_entropies": lambda: F.bernoulli_entropies(LOGITS_MBC),
    "categorical_entropies": lambda: F.categorical_entropies(LOGITS_MBC),
    "central_moment_discrepancy": lambda: F.central_moment_discrepancy(X_BD, Y_BD),
    "centred_gradient": lambda: F.centred_gradient(Y_BD, X_BD[:, 0], X_BD[0]),
    "cggm_coefficients": lambda: F.cggm_coefficients(X_BD[:, 0]),
    "class_moment": lambda: F.class_moment(X_BD, CLASS_B, 4),
    "class_scores": lambda: F.class_scores(X_BD, Y_BD, CLASS_B, 4, own_label=CLASS_B),
    "clustering_loss": lambda: F.clustering_loss(LOGITS_MBC[0], LABEL_B),
    "confidence_of_present": lambda: F.confidence_of_present(LOGITS_MBC[..., 0], PRESENT_MB),
    "confidence_rank_loss": lambda: F.confidence_rank_loss(X_BD[:, 0], Y_BD[:, 0], "margin"),
    "cosine_logits": lambda: F.cosine_logits(X_BD, Y_BD, 10.0),
    "dcca_loss": lambda: F.dcca_loss(X_BD, Y_BD),
    "decoding_loss": lambda: F.decoding_loss(X_BD, Y_BD, PLANE_DD, Y_BD[0], HAS_B),
    "distribution_uniformity": lambda: F.distribution_uniformity(LOGITS_MBC),
    "direction_loss": lambda: F.direction_loss(X_BD[:, 0], Y_BD[:, 0]),
    "dominant_factors": lambda: F.dominant_factors(X_BD[:, 0], 1.1, 0.7),
    "energy_confidence": lambda: F.energy_confidence(X_BD),
    "entropy_weights": lambda: F.entropy_weights(LOGITS_MBC, PRESENT_MB),
    "feature_distillation": lambda: F.feature_distillation(X_BD, Y_BD),
    "fill_with_mean": lambda: F.fill_with_mean(X_BD, HAS_B, Y_BD[0]),
    "fixed_weights": lambda: F.fixed_weights([0.1, 0.2, 0.4], PRESENT_MB, torch.float64),
    "fuse_logits": lambda: F.fuse_logits(LOGITS_MBC[..., 0].exp(), LOGITS_MBC),
    "fuse_probabilities": lambda: F.fuse_probabilities(LOGITS_MBC[..., 0].exp(), LOGITS_MBC),
    "gaussian_entropies": lambda: F.gaussian_entropies(LOGITS_MBC.exp()),
    "graded_coefficients": lambda: F.graded_coefficients(X_BD[:, 0].exp()),
    "holo_confidence": lambda: F.holo_confidence(TCP_MB, PRESENT_MB),
    "information_growth": lambda: F.information_growth(X_BD.exp()),
    "js_divergence": lambda: F.js_divergence(X_BD, Y_BD),
    "joint_energy_confidence": lambda: F.joint_energy_confidence(X_BD),
    "keep_ratios": lambda: F.keep_ratios(X_BD[:2, 0].sigmoid(), 1.7, Y_BD[:2, 0].exp()),
    "label_entropy": lambda: F.label_entropy(X_BD[:, 0].softmax(dim=0)),
    "linear_cca": lambda: F.linear_cca(X_BD, Y_BD)[0],
    "linear_svc": lambda: F.linear_svc(X_BD, CLASS_B, 4, 1.0)[0],
    "logit_distillation": lambda: F.logit_distillation(X_BD, Y_BD, 2.0),
    "mean_moment": lambda: F.mean_moment(X_BD, CLASS_B, 4),
    "mean_of_others": lambda: F.mean_of_others(X_BD[:, 0]),
    "mean_of_present": lambda: F.mean_of_present(X_BD, HAS_B),
    "mean_weights": lambda: F.mean_weights(PRESENT_MB, torch.float64),
    "mlb_coefficients": lambda: F.mlb_coefficients(X_BD[:, 0].exp(), 0.3),
    "modality_gap": lambda: F.modality_gap(LOGITS_MBC),
    "moment_projector": lambda: F.moment_projector(F.second_moment(X_BD, CLASS_B, 4), 0.3),
    "normalise_history": lambda: F.normalise_history(X_BD.T),
    "ogm_coefficients": lambda: F.ogm_coefficients(X_BD[:, 0].exp(), 0.3),
    "pareto_gradients": lambda: F.pareto_gradients([X_BD], [Y_BD])[0],
    "pareto_weight": lambda: F.pareto_weight([X_BD[0]], [-X_BD[0] - X_BD[1]]),
    "opm_drop_probabilities": lambda: F.opm_drop_probabilities(X_BD[:, 0].exp(), 0.3, 0.4),
    "opm_scale": lambda: F.opm_scale(X_BD[:3, 0].sigmoid(), [1, 2, 3]),
    "prediction_agreement": lambda: F.prediction_agreement(X_BD, Y_BD),
    "prediction_certainty": lambda: F.prediction_certainty(LOGITS_MBC),
    "project_gradient": lambda: F.project_gradient(Y_BD, PLANE_DD),
    "projector_from_means": lambda: F.projector_from_means(X_BD, 0.3),
    "prototype_logits": lambda: F.prototype_logits(X_BD, Y_BD),
    "reconstruction_loss": lambda: F.reconstruction_loss(X_BD, Y_BD, HAS_B),
    "regulation_strengths": lambda: F.regulation_strengths(X_BD[:, 0], 0.3),
    "relative_calibration": lambda: F.relative_calibration(TCP_MB, PRESENT_MB),
    "remove_conflict": lambda: F.remove_conflict(X_BD[0], [-Y_BD[0], Y_BD[0]]),
    "residual_cross_entropy": lambda: F.residual_cross_entropy(
        LOGITS_MBC[0], LOGITS_MBC[1], LABEL_B, discount=0.3
    ),
    "purity": lambda: F.purity(CLASS_B[:7], torch.arange(7) % 3),
    "relearning_weights": lambda: F.relearning_weights(X_BD[:, 0].abs(), 3.0),
    "reversed_js_divergence": lambda: F.reversed_js_divergence(X_BD, Y_BD),
    "scale_columns": lambda: F.scale_columns(X_BD),
    "second_moment": lambda: F.second_moment(X_BD, CLASS_B, 4),
    "subnetwork_factors": lambda: F.subnetwork_factors(
        X_BD[:, 0].exp(), 0.5, Y_BD[:, 0].sigmoid(), unbiased=True
    ),
    "repeated_shares": lambda: F.repeated_shares(X_BD[:, 0], 0.3),
    "shapley_values": lambda: F.shapley_values(
        dict(zip(F.subsets(2), LOGITS_MBC.exp().reshape(4, -1), strict=True))
    ),
    "symmetric_divergence": lambda: F.symmetric_divergence(X_BD[None], Y_BD[None]),
    "unimodal_scores": lambda: F.unimodal_scores(LOGITS_MBC, LABEL_B),
    "update_projector": lambda: F.update_projector(PLANE_DD, X_BD[0], 0.3),
    "update_projector_": lambda: F.update_projector_(PLANE_DD.clone(), X_BD[0], 0.3),
    "update_projector_frobenius_": lambda: F.update_projector_frobenius_(
        PLANE_DD.clone(), X_BD[0], 0.3
    ),
    "update_projector_released_": lambda: F.update_projector_released_(
        PLANE_DD.clone(), X_BD[0], 0.3
    ),
    "update_projector_unit_": lambda: F.update_projector_unit_(PLANE_DD.clone(), X_BD[0], 0.3),
    "update_prototypes": lambda: F.update_prototypes(X_BD, CLASS_B, Y_BD, HAS_B, 0.3),
    "weights_of_entropies": lambda: F.weights_of_entropies(LOGITS_MBC[..., 0], PRESENT_MB),
}
#: Functions of numbers, not of tensors, and those that return masks or whole numbers.
OF_NUMBERS = {
    "anchor_mask",
    "binary_coefficients",
    "contributions",
    "copies_of",
    "dropout_mask",
    "fitted_classification_weight",
    "k_means",
    "learning_modalities",
    "max_missing_rate",
    "missing_rate",
    "modality_behind",
    "released_alpha",
    "resampled_drop_probability",
    "resampled_mask",
    "restored_drop_probabilities",
    "restored_mask",
    "simplex_grid",
    "subsets",
}


def test_no_function_is_left_out():
    assert CALLS.keys() | OF_NUMBERS == set(F.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_a_result_in_double_precision_has_all_its_digits(name):
    result = CALLS[name]()
    assert result.dtype == torch.float64
    assert not torch.equal(result.float().double(), result)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weights", [F.entropy_weights, F.batch_entropy_weights])
def test_weights_of_half_precision_are_those_of_single(weights, half):
    logits = LOGITS_MBC.to(half)
    assert weights(logits).dtype == torch.float32
    torch.testing.assert_close(weights(logits), weights(logits.float()), rtol=0, atol=0)


def test_entropy_weights_are_a_softmax_of_entropies_to_twelve_digits():
    p = np.exp(LOGITS_MBC.numpy())
    p /= p.sum(axis=2, keepdims=True)
    lower = np.exp((p * np.log(p)).sum(axis=2))  # exp(-entropy)
    expected = lower / lower.sum(axis=0)
    np.testing.assert_allclose(F.entropy_weights(LOGITS_MBC).numpy(), expected, atol=1e-12)
    shown = lower * PRESENT_MB.numpy()
    np.testing.assert_allclose(
        F.entropy_weights(LOGITS_MBC, PRESENT_MB).numpy(), shown / shown.sum(axis=0), atol=1e-12
    )


def test_fixed_weights_are_ratios_to_twelve_digits():
    weights = F.fixed_weights([0.1, 0.2, 0.4], PRESENT_MB, torch.float64)
    assert weights[:, 0].tolist() == pytest.approx([1 / 7, 2 / 7, 4 / 7], abs=1e-15)
    assert weights[:, 1].tolist() == pytest.approx([0, 1 / 3, 2 / 3], abs=1e-15)
    fusion = LateFusion({"a": 2, "b": 2, "c": 2}, 4, weighting=[0.1, 0.2, 0.4])
    expected = torch.einsum("mb,mbc->bc", weights, LOGITS_MBC)
    fused = F.fuse_logits(fusion.weights(LOGITS_MBC, _by_name()), LOGITS_MBC)
    torch.testing.assert_close(fused, expected, rtol=0, atol=1e-14)


def _by_name():
    return dict(zip("abc", PRESENT_MB, strict=True))


def test_scores_and_coefficients_are_closed_forms_to_twelve_digits():
    p = [
        sum(
            math.exp(z[y]) / sum(map(math.exp, z))
            for z, y in zip(modality, LABEL_B.tolist(), strict=True)
        )
        for modality in LOGITS_MBC.tolist()
    ]
    assert F.unimodal_scores(LOGITS_MBC, LABEL_B).tolist() == pytest.approx(p, abs=1e-12)
    ratios = [2 * s / (sum(p) - s) for s in p]
    expected = [1 - math.tanh(0.3 * r) if r > 1 else 1.0 for r in ratios]
    coefficients = F.ogm_coefficients(torch.tensor(p, dtype=torch.float64), 0.3).tolist()
    assert coefficients == pytest.approx(expected, abs=1e-12)
    assert 0 < expected.count(1.0) < 3


def test_a_steps_mean_feature_has_all_its_digits():
    step = HeadStep("audio", CLASS_B)
    step.add_features(X_BD[:30])
    step.add_features(X_BD[30:])
    np.testing.assert_allclose(step.mean.numpy(), X_BD.numpy().mean(axis=0), atol=1e-15)
    step = HeadStep("audio", CLASS_B)
    step.add_features(X_BD.half())
    assert step.features.dtype == torch.float32
