"""Tasks: losses, entropies, energies and class weights by their closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import bernoulli, norm
from sklearn.utils.class_weight import compute_class_weight

from mla_lightning.errors import ConfigError
from mla_lightning.functional import (
    bernoulli_entropies,
    energy_confidence,
    entropy_weights,
    gaussian_entropies,
    joint_energy_confidence,
    unimodal_scores,
    weights_of_entropies,
)
from mla_lightning.fusion import EnergyFusion, LateFusion, SharedHead
from mla_lightning.tasks import (
    Classification,
    Multilabel,
    Regression,
    balanced_class_weights,
    balanced_label_weights,
)

RNG = torch.Generator().manual_seed(0)
Z = torch.randn(7, 3, generator=RNG, dtype=torch.float64)
CLASSES = torch.tensor([0, 0, 0, 0, 1, 1, 2])
LABELS = (torch.randn(7, 3, generator=RNG) > 0.3).double()
TARGET = 100 + 20 * torch.randn(7, generator=RNG, dtype=torch.float64)


def test_the_loss_of_classes_is_the_cross_entropy_itself():
    expected = torch.nn.functional.cross_entropy(Z, CLASSES)
    assert torch.equal(Classification().loss(Z, CLASSES), expected)
    torch.testing.assert_close(Classification().sample_losses(Z, CLASSES).mean(), expected)


def test_class_weights_give_the_weighted_mean_of_torch():
    weights = balanced_class_weights(CLASSES, 3).double()
    log_p = Z - Z.exp().sum(dim=1, keepdim=True).log()
    of_sample = weights[CLASSES]
    expected = -(of_sample * log_p[range(7), CLASSES]).sum() / of_sample.sum()
    task = Classification(class_weights=weights)
    torch.testing.assert_close(task.loss(Z, CLASSES), expected)
    torch.testing.assert_close(
        task.loss(Z, CLASSES), torch.nn.CrossEntropyLoss(weight=weights)(Z, CLASSES)
    )
    assert torch.equal(task.sample_losses(Z, CLASSES), Classification().sample_losses(Z, CLASSES))


def test_balanced_weights_are_those_of_scikit_learn():
    expected = compute_class_weight("balanced", classes=np.arange(3), y=CLASSES.numpy())
    np.testing.assert_allclose(balanced_class_weights(CLASSES, 3), expected, rtol=1e-6)
    absent = balanced_class_weights(CLASSES, 4)
    assert absent[3] == 1
    counts = LABELS.sum(dim=0).numpy()
    np.testing.assert_allclose(balanced_label_weights(LABELS), (7 - counts) / counts, rtol=1e-6)
    constant = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert balanced_label_weights(constant).tolist() == [1, 1]


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 5.0]).double()])
def test_the_loss_of_labels_is_the_mean_of_binary_cross_entropies(weights):
    p = 1 / (1 + (-Z).exp())
    factor = 1.0 if weights is None else weights
    entries = -(factor * LABELS * p.log() + (1 - LABELS) * (1 - p).log())
    task = Multilabel(class_weights=weights)
    torch.testing.assert_close(task.loss(Z, LABELS), entries.mean())
    plain = -(LABELS * p.log() + (1 - LABELS) * (1 - p).log())
    torch.testing.assert_close(task.sample_losses(Z, LABELS), plain.mean(dim=1))


@pytest.mark.parametrize(
    ("loss", "error"),
    [
        ("mse", lambda e: e**2),
        ("l1", abs),
        ("smooth_l1", lambda e: 0.5 * e**2 if abs(e) < 1 else abs(e) - 0.5),
    ],
)
def test_the_loss_of_a_number_is_the_error_of_the_standardised_target(loss, error):
    task = Regression(loss, mean=100.0, std=20.0)
    errors = [error(float(z - (y - 100) / 20)) for z, y in zip(Z[:, 0], TARGET, strict=True)]
    np.testing.assert_allclose(task.sample_losses(Z[:, :1], TARGET), errors, rtol=1e-6)
    assert float(task.loss(Z[:, :1], TARGET)) == pytest.approx(np.mean(errors), rel=1e-6)
    np.testing.assert_allclose(task.in_target_unit(Z[:, :1]), 100 + 20 * Z[:, :1])


def test_wrong_settings_of_regression_are_errors():
    with pytest.raises(ConfigError, match=r"task\.loss='huber' is unknown.* mse, l1, smooth_l1"):
        Regression("huber")
    with pytest.raises(ConfigError, match="deviation of the target must be > 0"):
        Regression(std=0.0)


def test_entropies_are_those_of_scipy():
    expected = bernoulli(1 / (1 + np.exp(-Z.numpy()))).entropy().mean(axis=1)
    np.testing.assert_allclose(bernoulli_entropies(Z), expected, rtol=1e-9)
    deviations = np.array([0.1, 1.0, 3.0])
    np.testing.assert_allclose(
        gaussian_entropies(torch.from_numpy(deviations**2)), norm(0, deviations).entropy()
    )
    assert bernoulli_entropies(torch.tensor([[1e6, -1e6]])) == 0


def test_the_energy_of_labels_is_the_sum_of_those_of_two_classes_each():
    pairs = torch.stack([Z, torch.zeros_like(Z)], dim=-1)
    expected = sum(energy_confidence(pairs[:, label]) for label in range(3))
    torch.testing.assert_close(joint_energy_confidence(Z), expected)


def test_scores_of_ogm_ge_are_exp_of_minus_the_loss():
    z_MBC = torch.stack([Z, -Z])
    scores = Classification().likelihoods(z_MBC, CLASSES)
    assert torch.equal(scores, unimodal_scores(z_MBC, CLASSES))
    by_loss = [(-Classification().sample_losses(z, CLASSES)).exp().sum() for z in z_MBC]
    torch.testing.assert_close(scores, torch.stack(by_loss))  # the paper's, written with the loss
    p = 1 / (1 + (-Z).exp())
    of_labels = (LABELS * p + (1 - LABELS) * (1 - p)).log().mean(dim=1).exp().sum()
    torch.testing.assert_close(Multilabel().likelihoods(z_MBC, LABELS)[0], of_labels)
    errors = (Z[:, 0] - (TARGET - 100) / 20).square()
    scores = Regression(mean=100.0, std=20.0).likelihoods(z_MBC[..., :1], TARGET)
    torch.testing.assert_close(scores[0], (-errors).exp().sum())


def test_constant_predictions_are_the_best_constants():
    """The median minimises the absolute error; frequent classes and labels are predicted."""
    task = Regression(mean=100.0, std=20.0)
    constant = float(task.in_target_unit(task.constant_logits(TARGET, 1)))
    errors = [float((TARGET - value).abs().mean()) for value in TARGET]
    assert float((TARGET - constant).abs().mean()) == pytest.approx(min(errors), rel=1e-5)
    assert Classification().constant_logits(CLASSES, 3).argmax() == 0
    labels = torch.tensor([[1.0, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 1.0]])
    logits = Multilabel().constant_logits(labels, 4)
    assert (logits > 0).tolist() == [True, True, False, True]
    assert bool(logits.isfinite().all())


# ---------------------------------------------------------------------- fusions


def test_weights_by_entropy_are_inverse_deviations_of_a_number():
    fusion = LateFusion({"a": 2, "b": 2, "c": 2}, 1, weighting="entropy")
    fusion.follow(Regression())
    fusion.residual_variance.copy_(torch.tensor([0.25, 1.0, 4.0]))
    logits = {name: torch.randn(5, 1) for name in "abc"}
    inverse = torch.tensor([2.0, 1.0, 0.5])
    expected = (inverse / inverse.sum())[:, None].expand(3, 5)
    torch.testing.assert_close(fusion.logit_weights(logits), expected)
    present = {"a": torch.zeros(5, dtype=torch.bool), **dict.fromkeys("bc", torch.ones(5) > 0)}
    weights = fusion.logit_weights(logits, present)
    torch.testing.assert_close(weights[:, 0], torch.tensor([0.0, 2 / 3, 1 / 3]))
    assert "residual_variance" in fusion.state_dict()


def test_weights_by_entropy_of_classes_are_as_before_and_of_labels_by_bernoulli():
    z_MBC = torch.randn(2, 5, 3)
    logits = {"a": z_MBC[0], "b": z_MBC[1]}
    fusion = SharedHead({"a": 2, "b": 2}, 3, weighting="entropy")
    assert torch.equal(fusion.logit_weights(logits), entropy_weights(z_MBC))
    assert "residual_variance" not in fusion.state_dict()
    fusion.follow(Multilabel())
    expected = weights_of_entropies(bernoulli_entropies(z_MBC))
    assert torch.equal(fusion.logit_weights(logits), expected)


def test_the_energy_fusion_follows_the_task_and_refuses_a_number():
    fusion = EnergyFusion({"a": 2, "b": 2}, 3)
    fusion.follow(Multilabel())
    logits = {"a": torch.randn(5, 3), "b": torch.randn(5, 3)}
    expected = torch.stack([joint_energy_confidence(z) for z in logits.values()])
    assert torch.equal(fusion.logit_weights(logits), expected)
    with pytest.raises(ConfigError, match="not for regression: one number has no energy"):
        fusion.follow(Regression())


@pytest.mark.parametrize("weighting", ["batch_entropy", "mean_probability"])
def test_weightings_of_classes_are_refused_for_other_tasks(weighting):
    fusion = LateFusion({"a": 2, "b": 2}, 3, weighting=weighting)
    fusion.follow(Classification())
    for task in (Multilabel(), Regression()):
        with pytest.raises(ConfigError, match=f"weighting={weighting} is not defined for"):
            fusion.follow(task)


def test_half_precision_does_not_round_the_target():
    task = Regression(mean=1000.0, std=1.0)
    z, label = torch.tensor([[0.5]]).bfloat16(), torch.tensor([1000.5])
    assert float(task.loss(z, label)) == 0
    assert task.in_target_unit(z).dtype == torch.float32
    assert math.isclose(float(task.in_target_unit(z)), 1000.5)
