"""Boosting over classifiers: losses and assignment, by numbers that were computed apart."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from mla_lightning.functional import (
    modality_behind,
    prediction_agreement,
    residual_cross_entropy,
)


def rows(*logits):
    return torch.tensor([logits], dtype=torch.float64)


@pytest.mark.parametrize(
    ("z", "others", "y", "w", "expected"),
    [
        ((1, 0, 0), [(0.5, 0, 0)], 0, (5, 1), 0.836015),
        ((1, 0, 0), [(0.5, 0, 0), (0, 1, 0)], 0, (4, 1), 0.678792),
        ((0, 2), [(3, 0)], 1, (1, 1), 0.060454),
        ((1, 0, 0), [(0.5, 0, 0)], 0, (5, 0), 0.919075),
    ],
)
def test_the_boosting_loss_of_a_turn(z, others, y, w, expected):
    earlier = sum(rows(*other) for other in others)
    weight, discount = w
    loss = residual_cross_entropy(
        rows(*z), earlier, torch.tensor([y]), weight=weight, discount=discount
    )
    assert loss.item() / len(z) == pytest.approx(expected, abs=1e-6)


def test_the_residual_loss_is_the_cross_entropy_of_a_soft_target():
    earlier, new, y = rows(1, 0, 0), rows(0.5, 0.2, 0), torch.tensor([0])
    p = earlier.softmax(dim=1)
    assert p[0, 0].item() == pytest.approx(0.576117, abs=1e-6)
    losses = [cross_entropy(z, y).item() for z in (earlier + new, earlier, new)]
    assert losses == pytest.approx([0.402569, 0.551445, 0.853287], abs=1e-6)
    residual = residual_cross_entropy(new, earlier, y, discount=0.5)
    assert sum(losses[:2]) + residual.item() == pytest.approx(1.561504, abs=1e-6)
    target = torch.zeros(1, 3).double()
    target[0, 0] = p[0, 0]
    released = cross_entropy(new, y) - 0.5 * cross_entropy(new, target)
    torch.testing.assert_close(residual, released, rtol=1e-12, atol=0)


def test_a_residual_loss_has_no_gradient_to_the_earlier_classifiers():
    z, earlier = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    residual_cross_entropy(z, earlier, torch.tensor([0, 1, 2, 0]), discount=1.0).backward()
    assert z.grad is not None
    assert earlier.grad is None
    agreement = prediction_agreement(z, earlier)
    agreement.backward()
    assert earlier.grad is None
    expected = (z.softmax(dim=1) - earlier.softmax(dim=1)).square().mean()
    torch.testing.assert_close(agreement, expected)


def test_without_samples_the_losses_are_zero_with_a_gradient():
    z = torch.zeros(0, 3, requires_grad=True)
    loss = residual_cross_entropy(z, z, torch.zeros(0, dtype=torch.long), discount=0.5)
    total = loss + prediction_agreement(z, z)
    total.backward()
    assert total.item() == 0


@pytest.mark.parametrize(
    ("scores", "options", "expected"),
    [
        ((30, 20), {"rule": "ratio"}, 1),
        ((20, 30), {"rule": "ratio"}, 0),
        ((0.5, 0.4), {}, 1),
        ((0.5, 0.495), {}, None),
        ((0.4, 0.266667, 0.333333), {}, 1),
        ((30, 20, 25), {"rule": "ratio"}, 1),
        ((0.1, 0.2, 0.3), {}, 0),
        # Below 1 - 0.01 is not the same as above 1 + 0.01 the other way round.
        ((1.0101, 1.0), {"rule": "ratio"}, 1),
        ((1.0, 1.0101), {"rule": "ratio"}, None),
        ((0.0, 0.0), {"rule": "ratio"}, None),
        ((0.2, 0.0), {"rule": "ratio"}, 1),
        ((0.5, 0.4), {"sigma": 1.25}, None),
        ((0.5, 0.45), {"threshold": 0.1}, None),
        ((0.5, 0.495), {"rule": "ratio"}, 1),
    ],
)
def test_the_weakest_modality_is_behind(scores, options, expected):
    assert modality_behind(torch.tensor(scores, dtype=torch.float64), **options) == expected


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="M >= 2"):
        modality_behind(torch.tensor([1.0]))
    with pytest.raises(ValueError, match="difference or ratio"):
        modality_behind(torch.tensor([1.0, 2.0]), rule="mean")


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_losses_of_half_precision_are_those_of_single(half):
    z, other = torch.randn(5, 3).to(half), torch.randn(5, 3).to(half)
    label = torch.tensor([0, 1, 2, 0, 1])
    loss = residual_cross_entropy(z, other, label, discount=0.5)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, residual_cross_entropy(z.float(), other.float(), label, discount=0.5))
    assert torch.equal(
        prediction_agreement(z, other), prediction_agreement(z.float(), other.float())
    )
