"""Calibration against numbers by hand, torchmetrics and a known temperature."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from mla_lightning.metrics.calibration import entropy_bins, reliability, temperature


def drawn(num=4000, scale=1.0, seed=0):
    """Logits whose softmax is the truth, times a scale."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num, 4, generator=generator) * 2
    label = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return logits * scale, label


def test_bins_are_as_by_hand():
    confidence = torch.tensor([0.5, 0.55, 0.9, 1.0])
    is_correct = torch.tensor([True, False, True, True])
    bins = reliability(confidence, is_correct, num_bins=2)
    assert bins.num == (1, 3)  # right-closed: 0.5 is in the first half
    assert bins.confidence == pytest.approx((0.5, 2.45 / 3))
    assert bins.accuracy == pytest.approx((1.0, 2 / 3))
    assert bins.ece == pytest.approx(0.25 * 0.5 + 0.75 * (2.45 / 3 - 2 / 3))
    mass = reliability(confidence, is_correct, equal_mass=True, num_bins=2)
    assert mass.num == (2, 2)
    assert mass.ece == pytest.approx(0.5 * abs(0.525 - 0.5) + 0.5 * abs(0.95 - 1))


def test_the_error_is_that_of_torchmetrics():
    logits, label = drawn(scale=2.0)
    confidence, prediction = logits.double().softmax(dim=1).max(dim=1)
    error = reliability(confidence, prediction == label).ece
    expected = multiclass_calibration_error(logits.double().softmax(dim=1), label, 4, n_bins=15)
    assert error == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_temperature_undoes_a_scale_and_the_error_with_it(scale):
    logits, label = drawn(20_000, scale)
    fitted = temperature(logits, label)
    assert fitted == pytest.approx(scale, rel=0.05)
    confidence, prediction = (logits / fitted).double().softmax(dim=1).max(dim=1)
    assert reliability(confidence, prediction == label).ece < 0.02


def test_accuracy_falls_with_entropy_where_probabilities_are_true():
    logits, label = drawn()
    bins = entropy_bins(logits, label)
    assert bins["entropy"] == sorted(bins["entropy"])
    assert bins["accuracy"] == sorted(bins["accuracy"], reverse=True)
    assert len(entropy_bins(logits[:3], label[:3])["accuracy"]) == 3
    assert len(bins["entropy"]) == 5
    assert len(entropy_bins(logits, label, num_bins=8)["entropy"]) == 8


def test_entropy_bins_hold_equally_many_samples():
    # Entropies of 0, ln 2 and 0 nats; predictions right, wrong, right.
    logits = torch.tensor([[50.0, 0.0], [0.0, 0.0], [0.0, 50.0], [0.0, 0.0]])
    bins = entropy_bins(logits, torch.tensor([0, 1, 1, 0]), num_bins=2)
    assert bins["entropy"] == pytest.approx([0.0, np.log(2)], abs=1e-12)
    assert bins["accuracy"] == [1.0, 0.5]
    bins = entropy_bins(logits, torch.tensor([0, 1, 1, 0]), num_bins=3)
    assert bins["entropy"] == pytest.approx([0.0, np.log(2), np.log(2)], abs=1e-12)
