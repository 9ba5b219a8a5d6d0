"""Alternatives to the recursive projector, against closed forms."""

import pytest
import torch

from mla_lightning.functional import (
    centred_gradient,
    class_moment,
    mean_moment,
    moment_projector,
    projector_from_means,
    remove_conflict,
    second_moment,
)

FEATURES = torch.tensor([[1.0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 4, 0]])
LABEL = torch.tensor([0, 0, 2, 2])


def test_moments_equal_those_computed_by_hand():
    assert mean_moment(FEATURES, LABEL, 3).tolist() == [[1, 1.5, 0], [1.5, 2.25, 0], [0, 0, 0]]
    assert second_moment(FEATURES, LABEL, 3).tolist() == [[2.5, 0, 0], [0, 5, 0], [0, 0, 0]]
    # Two of three classes are in the batch, with means (2, 0, 0) and (0, 3, 0).
    assert class_moment(FEATURES, LABEL, 3).tolist() == [[2, 0, 0], [0, 4.5, 0], [0, 0, 0]]


def test_the_projector_shrinks_by_energy_relative_to_the_mean_eigenvalue():
    moment = torch.diag(torch.tensor([6.0, 3.0, 0.0]))
    projector = moment_projector(moment, 0.5)  # the ridge is 0.5 * 9 / 3
    expected = [1.5 / 7.5, 1.5 / 4.5, 1.0]
    torch.testing.assert_close(projector, torch.diag(torch.tensor(expected)))
    torch.testing.assert_close(moment_projector(100 * moment, 0.5), projector)
    assert torch.equal(moment_projector(torch.zeros(3, 3), 0.5), torch.eye(3))
    with pytest.raises(ValueError, match="alpha"):
        moment_projector(moment, 0.0)


def test_for_one_mean_feature_it_equals_the_recursive_projector():
    mean = torch.tensor([1.0, 2, 0])
    moment = torch.outer(mean, mean)
    alpha = 0.3
    recursion = projector_from_means(mean[None], alpha * 5 / 3)
    torch.testing.assert_close(moment_projector(moment, alpha), recursion)


def test_only_conflicting_components_are_removed():
    gradient = torch.tensor([[1.0, 1]])
    assert torch.equal(remove_conflict(gradient, [torch.tensor([[1.0, 0]])]), gradient)
    opposed = torch.tensor([[-2.0, 0]])
    assert remove_conflict(gradient, [opposed]).tolist() == [[0, 1]]
    assert torch.equal(remove_conflict(gradient, [torch.zeros(1, 2)]), gradient)
    both = remove_conflict(gradient, [opposed, torch.tensor([[0.0, -1]])])
    assert both.tolist() == [[0, 0]]


def test_the_centred_gradient_is_that_of_a_head_on_centred_features():
    torch.manual_seed(0)
    feature, label = torch.randn(8, 5) + 3, torch.arange(8) % 3
    head = torch.nn.Linear(5, 3)
    loss = torch.nn.functional.cross_entropy(head(feature), label)
    weight, bias = torch.autograd.grad(loss, [head.weight, head.bias])
    mean = feature.mean(dim=0)
    centred_head = torch.nn.Linear(5, 3)
    with torch.no_grad():  # the same logits from centred features
        centred_head.weight.copy_(head.weight)
        centred_head.bias.copy_(head.bias + head.weight @ mean)
    same_loss = torch.nn.functional.cross_entropy(centred_head(feature - mean), label)
    (expected,) = torch.autograd.grad(same_loss, [centred_head.weight])
    torch.testing.assert_close(centred_gradient(weight, bias, mean), expected)
