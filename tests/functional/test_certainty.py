"""The certainty of predictions against numbers that were computed independently."""

import math

import numpy as np
import pytest
import torch

from mla_lightning.functional import prediction_certainty


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ((0.7, 0.2, 0.1), 0.428183),
        ((0.5, 0.25, 0.25), 0.084963),
        ((0.4, 0.3, 0.3), 0.014012),
        ((0.25,) * 4, 0.0),
    ],
)
def test_certainty_of_probabilities(probabilities, expected):
    logits = torch.tensor(probabilities, dtype=torch.float64).log()
    assert float(prediction_certainty(logits)) == pytest.approx(expected, abs=5e-7)
    assert float(prediction_certainty(logits + 3)) == pytest.approx(expected, abs=5e-7)


def test_a_sure_prediction_has_all_bits():
    assert float(prediction_certainty(torch.tensor([200.0, 0.0, 0.0, 0.0]))) == pytest.approx(2.0)
    clipped = np.array([1.0, 1e-9, 1e-9])
    expected = float((clipped * np.log2(clipped * 3)).sum())
    logits = torch.tensor([900.0, 0.0, 0.0], dtype=torch.float64)
    assert float(prediction_certainty(logits)) == pytest.approx(expected, abs=1e-12)
    assert expected != math.log2(3)


def test_half_precision_is_promoted():
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)).half()
    certainty = prediction_certainty(logits)
    assert certainty.dtype == torch.float32
    assert torch.equal(certainty, prediction_certainty(logits.float()))
