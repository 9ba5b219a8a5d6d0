"""OGM's coefficients; QMF's confidence, ranking loss and history."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from mla_lightning.functional import (
    confidence_rank_loss,
    energy_confidence,
    normalise_history,
    ogm_coefficients,
    unimodal_scores,
)

Z_A = torch.tensor([[2.0, 0], [1.0, 0]])
Z_V = torch.tensor([[0.5, 0], [0.0, 0]])
Q_A = torch.tensor([[2.0, 0, 0], [0, 1.0, 0]])
Q_V = torch.tensor([[0, 0, 1.0], [0, 3.0, 0]])
C, N = torch.tensor([0.10, 0.35]), torch.tensor([0.4, 0.5])


def near(actual, expected):
    assert_close(actual, torch.tensor(expected), atol=2e-6, rtol=0)


def test_scores_and_coefficients():  # O
    scores = unimodal_scores(torch.stack([Z_A, Z_V]), torch.tensor([0, 0]))
    near(scores, [1.611856, 1.122459])
    near(ogm_coefficients(scores, 0.3), [0.594009, 1.0])
    near(ogm_coefficients(scores, 0.8)[0], 0.182643)


def test_every_modality_that_is_ahead_is_damped_and_no_other():
    near(ogm_coefficients(torch.tensor([1.0, 1.0, 1.0]), 0.5), [1.0, 1.0, 1.0])
    coefficients = ogm_coefficients(torch.tensor([3.0, 2.0, 1.0]), 0.5)
    assert coefficients[0] == pytest.approx(1 - torch.tanh(torch.tensor(0.5 * 2.0)).item())
    assert coefficients[1:].tolist() == [1.0, 1.0]
    two_ahead = ogm_coefficients(torch.tensor([3.0, 2.5, 0.5]), 0.5)
    assert (two_ahead[:2] < 1).all()
    assert two_ahead[2] == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=5), st.floats(0, 2))
@example(
    [1.6031128766578653] * 3, 1.0
)  # in float32, the sum minus one of the three is not twice that one
def test_coefficients_are_factors_and_follow_the_order(values, alpha):
    scores = torch.tensor(values)
    coefficients = ogm_coefficients(scores, alpha)
    assert ((coefficients >= 0) & (coefficients <= 1)).all()
    assert torch.equal(ogm_coefficients(scores, 0.0), torch.ones(len(values)))
    assert_close(ogm_coefficients(scores.flip(0), alpha), coefficients.flip(0))
    assert coefficients[scores.argmin()] == 1


def test_confidence_and_losses():  # Q
    near(energy_confidence(Q_A), [0.223954, 0.155144])
    near(energy_confidence(Q_V), [0.155144, 0.309492])
    label = torch.tensor([0, 1])
    near(cross_entropy(Q_A, label, reduction="none"), [0.239545, 0.551445])
    near(cross_entropy(Q_V, label, reduction="none"), [1.551445, 0.094923])


def test_ranking():  # Q
    near(confidence_rank_loss(C, N, "released"), 0.15)
    near(confidence_rank_loss(C, N, "margin"), 0.35)


def test_ranking_prefers_more_confidence_in_the_easier_sample():
    """The second sample has the larger loss, so its confidence should be the smaller one."""
    ordered, reversed_ = torch.tensor([0.9, 0.1]), torch.tensor([0.1, 0.9])
    history = torch.tensor([0.0, 0.3])
    for mode in ("margin", "released"):
        loss = confidence_rank_loss(ordered, history, mode)
        assert loss < confidence_rank_loss(reversed_, history, mode)
    ties = torch.tensor([0.5, 0.5])
    assert confidence_rank_loss(reversed_, ties, "margin") == 0
    assert confidence_rank_loss(reversed_, ties, "released") == 0


def test_released_ranking_equals_the_released_loop_over_samples():
    rng = torch.Generator().manual_seed(0)
    c, n = torch.rand(9, generator=rng), torch.rand(9, generator=rng)
    total = 0.0
    for i in range(9):
        j = (i + 1) % 9
        target = 1.0 if n[i] > n[j] else -1.0
        shifted = c[j] + (n[i] - n[j]).abs() / target
        total += max(0.0, float(target * (c[i] - shifted)))
    assert confidence_rank_loss(c, n, "released").item() == pytest.approx(total / 9, abs=1e-6)


def test_history_is_scaled_to_0_to_1_and_ties_are_zero():
    near(normalise_history(torch.tensor([1.0, 3.0, 2.0])), [0.0, 1.0, 0.5])
    assert torch.equal(normalise_history(torch.full((2, 3), 7.0)), torch.zeros(2, 3))


def test_bad_arguments():
    with pytest.raises(ValueError, match="M >= 2"):
        ogm_coefficients(torch.ones(1), 0.1)
    with pytest.raises(ValueError, match="alpha"):
        ogm_coefficients(torch.ones(2), -0.1)
    with pytest.raises(ValueError, match="mode"):
        confidence_rank_loss(C, N, "margins")
    with pytest.raises(ValueError, match=r"\(B,\)"):
        confidence_rank_loss(C, N[:1], "margin")
