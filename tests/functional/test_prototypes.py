"""PMR's prototypes and coefficients, against numbers that were computed independently."""

import pytest
import torch

from mla_lightning.functional import (
    binary_coefficients,
    categorical_entropies,
    graded_coefficients,
    prototype_logits,
    unimodal_scores,
    update_prototypes,
)


def test_distances_are_a_classifier():
    h = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    c = torch.tensor([[1.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([0, 1])
    u = prototype_logits(h, c)
    assert u.flatten().tolist() == pytest.approx([-1, -3, -4.472136, -4], abs=1e-6)
    p = u.softmax(dim=1)[[0, 1], y]
    assert p.tolist() == pytest.approx([0.880797, 0.615889], abs=1e-6)
    assert unimodal_scores(u[None], y).tolist() == pytest.approx([1.496686], abs=1e-6)
    assert float(torch.nn.functional.cross_entropy(u, y)) == pytest.approx(0.305808, abs=1e-6)


def test_a_feature_on_its_prototype_has_a_finite_gradient():
    h = torch.ones(40, 3, requires_grad=True)
    prototype_logits(h, torch.ones(30, 3)).sum().backward()
    assert not h.grad.any()


def test_distances_of_many_samples_keep_their_digits():
    h = torch.full((64, 4), 1000.0)
    assert torch.equal(prototype_logits(h, h[:32] + 0.5), torch.full((64, 32), -1.0))


def test_half_precision_is_promoted():
    h = torch.ones(2, 3, dtype=torch.bfloat16)
    assert prototype_logits(h, torch.zeros(2, 3)).dtype == torch.float32


@pytest.mark.parametrize(
    ("scores", "binary", "graded"),
    [
        ([1.2, 0.8], [0, 1], [0, 0.5]),
        ([1.2, 0.8, 1.0], [0, 1, 0], [0, 0.375, 0]),
        ([0.7, 0.7], [0, 0], [0, 0]),
        ([0.1, 0.1, 0.1], [0, 0, 0], [0, 0, 0]),
        ([5.0, 1.0], [0, 1], [0, 1]),  # clipped
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_who_is_behind(scores, binary, graded, dtype):
    scores = torch.tensor(scores, dtype=dtype)
    assert binary_coefficients(scores).tolist() == binary
    assert graded_coefficients(scores).tolist() == pytest.approx(graded, abs=1e-6)


def test_prototypes_move_by_their_momentum():
    new, old = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    one, true = torch.ones(1), torch.tensor([True])
    assert update_prototypes(new, one, old, true, 0.2)[0].tolist() == pytest.approx([0.8, 0.2])
    assert torch.equal(update_prototypes(new, one, old, ~true, 0.2), new)
    assert torch.equal(update_prototypes(new, 0 * one, old, true, 0.2), old)
    assert torch.equal(update_prototypes(new, one, old, true, 0.0), new)
    with pytest.raises(ValueError, match="momentum must be in"):
        update_prototypes(new, one, old, true, 1.0)


def test_entropy_of_a_uniform_prediction():
    assert float(categorical_entropies(torch.zeros(4))) == pytest.approx(1.386294, abs=1e-6)
