"""Coefficients of OPM and AGM and logits of MMCosine against numbers computed apart."""

from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from mla_lightning.functional import (
    agm_coefficients,
    cosine_logits,
    opm_drop_probabilities,
    opm_scale,
)

near = partial(torch.testing.assert_close, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("scores", "widths", "q", "scale"),
    [
        ([24.0, 16.0], [512, 512], [0.615529, 0.0], 1.444595),
        ([24.0, 16.0, 8.0], [512, 256, 128], [0.690399, 0.0, 0.0], 1.651564),
    ],
)
def test_features_of_the_leader_are_dropped(scores, widths, q, scale):
    found = opm_drop_probabilities(torch.tensor(scores), 0.5, 0.5)
    near(found, torch.tensor(q))
    near(opm_scale(found, widths), torch.tensor(scale))
    mean_scales = opm_scale(found, widths) * (1 - found)  # of a feature, over many draws
    weights = torch.tensor(widths).float() / sum(widths)
    assert float((weights * mean_scales).sum()) == pytest.approx(1.0)
    if len(scores) == 2:
        near(mean_scales, torch.tensor([0.555405, 1.444595]))


def test_nobody_is_dropped_on_a_tie_and_never_everybody():
    near(opm_drop_probabilities(torch.full((3,), 1.6031128766578653), 1.0, 1.0), torch.zeros(3))
    assert opm_drop_probabilities(torch.tensor([9.0, 1.0]), 0.9, 1.0).tolist() == [1.0, 0.0]
    assert opm_drop_probabilities(torch.tensor([9.0, 8.0, 1.0]), 0.9, 5.0)[2] == 0
    assert torch.equal(opm_drop_probabilities(torch.tensor([9.0, 1.0]), 0.0, 1.0), torch.zeros(2))


def test_settings_of_opm_are_checked():
    for q_base, strength in ((-0.1, 0.5), (1.1, 0.5), (0.5, -1.0)):
        with pytest.raises(ValueError, match="q_base must be in"):
            opm_drop_probabilities(torch.ones(2), q_base, strength)


@pytest.mark.parametrize(
    ("losses", "levels", "expected"),
    [
        ([0.5, 1.3], [0.6, 1.2], [0.668030, 1.104599]),
        ([0.5, 1.3], [0.0, 0.0], [0.293599, 1.734416]),
        ([0.5, 1.3, 0.9], [0.6, 1.2, 0.9], [0.775842, 1.092880, 1.0]),
    ],
)
def test_who_leads_by_more_than_so_far_is_slowed_down(losses, levels, expected):
    near(agm_coefficients(torch.tensor(losses), torch.tensor(levels), 1.0), torch.tensor(expected))


def test_exponents_of_the_other_sign_exchange_two_modalities():
    losses, levels = torch.tensor([0.5, 1.3]), torch.tensor([0.6, 1.2])
    found = agm_coefficients(losses, levels, 1.0, rewards_leader=True)
    near(found, torch.tensor([1.104599, 0.668030]))


def test_coefficients_have_a_limit_and_a_strength():
    losses, levels = torch.tensor([9.0, 1.0]), torch.tensor([1.0, 9.0])
    found = agm_coefficients(losses, levels, 0.3)
    assert float(found[0]) == pytest.approx(torch.tensor(3.0).exp().item())  # exp(8) without limit
    assert float(found[1]) == 0
    assert torch.equal(agm_coefficients(losses, levels, 0.0), torch.ones(2))
    with pytest.raises(ValueError, match="alpha must be >= 0"):
        agm_coefficients(losses, levels, -1.0)


def test_cosines_and_their_sum():
    first = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]])
    second = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    of_first = cosine_logits(torch.tensor([[3.0, 4.0]]), first, 10.0)
    of_second = cosine_logits(torch.tensor([[0.0, 2.0]]), second, 10.0)
    near(of_first, torch.tensor([[6.0, 8.0, -9.899495]]))
    near(of_second, torch.tensor([[10.0, 7.071068, 0.0]]))
    near(of_first + of_second, torch.tensor([[16.0, 15.071068, -9.899495]]))
    near(cross_entropy(of_first + of_second, torch.tensor([1])), torch.tensor(1.261809))


def test_zeros_have_logits_of_zero_also_in_half_precision():
    weight = torch.randn(3, 2)
    assert cosine_logits(torch.zeros(1, 2), weight, 10.0).tolist() == [[0.0, 0.0, 0.0]]
    half = cosine_logits(torch.zeros(1, 2).half(), weight.half(), 10.0)
    assert half.dtype == torch.float32
    assert half.tolist() == [[0.0, 0.0, 0.0]]


def test_vectors_without_direction_get_no_gradient_and_the_others_that_of_the_cosine():
    rng = torch.Generator().manual_seed(0)
    feature, weight = torch.randn(4, 3, generator=rng), torch.randn(2, 3, generator=rng)
    feature[1], feature[2], weight[0] = 0.0, 1e-20, 0.0
    of_logits = torch.randn(4, 2, generator=rng)
    feature.requires_grad_()
    weight.requires_grad_()
    cosine_logits(feature, weight, 10.0).backward(of_logits)
    assert not feature.grad[1:3].any()
    assert not weight.grad[0].any()
    h, w = (x.detach().double().requires_grad_() for x in (feature[[0, 3]], weight[1]))
    cosines = h @ w / (h.square().sum(dim=1).sqrt() * w.square().sum().sqrt())
    (10 * cosines).backward(of_logits[[0, 3], 1].double())
    near(feature.grad[[0, 3]], h.grad.float())
    near(weight.grad[1], w.grad.float())
