"""PDF's weights, against numbers that were computed independently."""

import pytest
import torch

from mla_lightning.functional import (
    belief_weights,
    distribution_uniformity,
    holo_confidence,
    relative_calibration,
)


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def values(x):
    return pytest.approx(x, abs=1e-6)


def test_two_modalities():
    t, du = column(0.8, 0.4), column(0.3, 0.1)
    assert holo_confidence(t)[:, 0].tolist() == values([0.804163, 0.195837])
    assert belief_weights(t)[:, 0].tolist() == values([0.732692, 0.267308])
    rc = relative_calibration(du)
    assert rc[:, 0].tolist() == values([1, 0.333333])
    assert belief_weights(t, None, rc)[:, 0].tolist() == values([0.803063, 0.196937])


def test_three_modalities():
    t, du = column(0.8, 0.4, 0.6), column(0.3, 0.1, 0.2)
    holo = holo_confidence(t)[:, 0]
    assert holo.tolist() == values([0.864783, 0.444760, 0.690457])
    assert float(holo.sum()) == pytest.approx(2)
    assert belief_weights(t)[:, 0].tolist() == values([0.469886, 0.206948, 0.323166])
    weights = belief_weights(t, None, relative_calibration(du))
    assert weights[:, 0].tolist() == values([0.588894, 0.147680, 0.263425])


def test_distance_from_the_uniform_prediction():
    logits = torch.tensor([[0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64).log()
    assert distribution_uniformity(logits).tolist() == values([0.244444, 0])
    assert relative_calibration(torch.zeros(2, 1)).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("absent", [0, 1, 2])
def test_a_sample_without_a_modality_is_one_of_the_others(absent):
    t, du = column(0.8, 0.4, 0.6), column(0.3, 0.1, 0.2)
    rest = [row for row in range(3) if row != absent]
    present = torch.ones(3, 1, dtype=torch.bool)
    present[absent] = False
    t[absent] = du[absent] = float("nan")  # whatever it is
    rc = relative_calibration(du, present)
    torch.testing.assert_close(rc[rest], relative_calibration(du[rest]))
    for calibration, of_rest in ((None, None), (rc, rc[rest])):
        weights = belief_weights(t, present, calibration)
        assert float(weights[absent]) == 0
        torch.testing.assert_close(weights[rest], belief_weights(t[rest], None, of_rest))
    assert float(holo_confidence(t, present).sum()) == pytest.approx(1)


def test_one_modality_has_all_weight_and_none_has_none():
    t = column(0.8, 0.4)
    present = torch.tensor([[False, False], [True, False]])
    weights = belief_weights(t.expand(2, 2), present)
    assert weights.T.tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_certain_predictions_have_finite_weights():
    for t in (column(1.0, 1.0), column(0.0, 1.0), column(0.0, 0.0)):
        for dtype in (torch.float32, torch.float64):
            weights = belief_weights(t.to(dtype))
            assert bool(weights.isfinite().all())
            assert float(weights.sum()) == pytest.approx(1)
    assert belief_weights(column(1.0, 1.0))[:, 0].tolist() == [0.5, 0.5]
