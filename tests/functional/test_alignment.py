"""The gap between the predictions of modalities, and the fitted weight of classification."""

import math
from itertools import pairwise

import pytest
import torch

from mla_lightning.functional import (
    fitted_classification_weight,
    js_divergence,
    modality_gap,
    reversed_js_divergence,
)

LOGITS = torch.tensor([[[2.0, 0, 0]], [[0, 1.0, 0]], [[0, 0, 1.5]]], dtype=torch.float64)


def test_the_fitted_weight_is_the_polynomial():
    epochs = (0, 20, 50, 100, 150, 199)
    expected = (0.204624, 0.300887, 0.436681, 0.539155, 0.821314, 0.915989)
    assert [fitted_classification_weight(e) for e in epochs] == pytest.approx(expected, abs=1e-6)
    free = [fitted_classification_weight(e, clip=False) for e in range(228)]
    assert [e for e, weight in enumerate(free) if weight > 1] == list(range(177, 189))
    assert max(free) == pytest.approx(1.010540, abs=1e-6)
    assert next(e for e, weight in enumerate(free) if weight < 0) == 227
    assert max(fitted_classification_weight(e) for e in range(200)) == 1


def test_divergences_are_those_computed_by_hand():
    first, second, _ = LOGITS
    assert float(js_divergence(first, second)) == pytest.approx(0.185749, abs=1e-6)
    assert float(reversed_js_divergence(first, second)) == pytest.approx(0.219176, abs=1e-6)
    assert float(modality_gap(LOGITS)) == pytest.approx(0.186045, abs=1e-6)


def test_the_loss_of_the_first_epoch_is_that_computed_by_hand():
    own = LOGITS[:2]
    loss = torch.nn.functional.cross_entropy(own.mean(dim=0), torch.tensor([0]))
    assert float(loss) == pytest.approx(0.680270, abs=1e-6)
    weight = fitted_classification_weight(0)
    total = 2 * (weight * loss + (1 - weight) * modality_gap(own, "released"))
    assert float(total) == pytest.approx(0.627053, abs=1e-6)


@pytest.mark.parametrize("divergence", [js_divergence, reversed_js_divergence])
def test_divergences_are_symmetric_and_0_for_equal_predictions(divergence):
    first, second = torch.randn(2, 8, 5, dtype=torch.float64)
    torch.testing.assert_close(divergence(first, second), divergence(second, first))
    assert float(divergence(first, first + 3)) == pytest.approx(0, abs=1e-12)
    values = [float(divergence(scale * first, scale * second)) for scale in (0.1, 1, 10)]
    assert all(low < high for low, high in pairwise(values))


def test_only_the_first_is_bounded_and_both_are_finite_for_sure_predictions():
    sure = torch.tensor([[300.0, 0.0]]), torch.tensor([[0.0, 300.0]])
    assert float(js_divergence(*sure)) == pytest.approx(math.log(2))
    assert float(reversed_js_divergence(*sure)) > 100
    assert torch.isfinite(reversed_js_divergence(*sure))
