"""Distillation and the order of the modalities, against numbers that were computed apart."""

import pytest
import torch

from mla_lightning.functional import (
    dominant_factors,
    feature_distillation,
    learning_modalities,
    logit_distillation,
)


def of(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


def test_features():
    distance = feature_distillation(of(1, 2), of(0, 4))
    assert float(10 * distance) == 25.0
    joint = torch.nn.functional.cross_entropy(of(1, 0), torch.tensor([0]))
    assert float(joint + 10 * distance) == pytest.approx(25.313262, abs=1e-6)


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.462117), (2.0, 0.489837)])
def test_logits(temperature, expected):
    value = logit_distillation(of(1, 0), of(0, 1), temperature)
    assert float(value) == pytest.approx(expected, abs=1e-6)


def test_logits_of_torch():
    rng = torch.Generator().manual_seed(0)
    z, teacher = torch.randn(2, 7, 4, generator=rng, dtype=torch.float64)
    expected = 9 * torch.nn.functional.kl_div(
        (z / 3).log_softmax(1), (teacher / 3).softmax(1), reduction="batchmean"
    )
    torch.testing.assert_close(logit_distillation(z, teacher, 3.0), expected)


def test_the_loss_of_g2d():
    z, label = of(1, 0), torch.tensor([0])
    teachers = [of(0, 1), of(2, 0)]
    divergences = [float(logit_distillation(z, teacher)) for teacher in teachers]
    assert divergences == pytest.approx([0.462117, 0.067131], abs=1e-6)
    joint = float(torch.nn.functional.cross_entropy(z, label))
    assert joint + sum(divergences) + 2.5 + 0.5 == pytest.approx(3.842510, abs=1e-6)
    scores = torch.cat([teacher.softmax(1)[:, 0] for teacher in teachers])
    assert scores.tolist() == pytest.approx([0.268941, 0.880797], abs=1e-6)
    assert learning_modalities(scores, 0).tolist() == [True, False]  # the second is off
    assert learning_modalities(scores, 1).tolist() == [True, True]


def test_three_modalities_learn_one_after_the_other():
    scores = torch.tensor([0.6, 0.4, 0.5])
    found = [learning_modalities(scores, ended).tolist() for ended in range(4)]
    assert found == [[False, True, False], [False, False, True], [True] * 3, [True] * 3]


def test_equal_modalities_learn_together():
    assert learning_modalities(torch.tensor([0.5, 0.5]), 0).all()
    scores = torch.tensor([0.4, 0.6, 0.4])
    for ended in (0, 1):
        assert learning_modalities(scores, ended).tolist() == [True, False, True]
    assert learning_modalities(torch.zeros(3), 0).all()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.5645, 0.6217], [0.7, 1.5]),
        ([0.60, 0.55, 0.62], [0.7, 0.7, 1.5]),
        ([0.6, 0.6], [1.5, 0.7]),
    ],
)
def test_the_best_modality_leads(scores, expected):
    factors = dominant_factors(torch.tensor(scores, dtype=torch.float64), 1.5, 0.7)
    assert factors.tolist() == expected


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="temperature must be > 0, got 0"):
        logit_distillation(of(1), of(1), 0)
    with pytest.raises(ValueError, match=r"M >= 2, got \(1,\)"):
        learning_modalities(torch.ones(1), 0)
    with pytest.raises(ValueError, match="num_ended must be >= 0, got -1"):
        learning_modalities(torch.ones(2), -1)
