"""The linear support vector classifier: equal to LIBLINEAR, zero gradient."""

import pytest
import torch
from torch.testing import assert_close

from mla_lightning.functional import linear_svc


def blobs(num, width, classes, seed=0):
    rng = torch.Generator().manual_seed(seed)
    label = torch.arange(num) % classes
    x = 2 * torch.randn(num, width, generator=rng, dtype=torch.float64)
    x[:, :classes] += 2.0 * torch.nn.functional.one_hot(label, classes)
    return x, label


@pytest.mark.parametrize(
    ("num", "width", "classes", "cost"),
    [(300, 12, 5, 0.01), (60, 5, 2, 0.5), (40, 80, 3, 10.0), (90, 6, 4, 1e-4)],
)
def test_it_equals_the_solution_of_liblinear(num, width, classes, cost):
    from sklearn.svm import LinearSVC

    x, label = blobs(num, width, classes)
    weight, bias = linear_svc(x, label, classes, cost)
    reference = LinearSVC(C=cost, dual=False, tol=1e-10, max_iter=100_000).fit(x, label)
    rows = slice(1, None) if classes == 2 else slice(None)  # for two classes it has one plane
    assert_close(weight[rows], torch.from_numpy(reference.coef_), atol=1e-6, rtol=0)
    assert_close(bias[rows], torch.from_numpy(reference.intercept_), atol=1e-6, rtol=0)
    if classes == 2:
        assert_close(weight[0], -weight[1])


def test_the_gradient_at_the_solution_is_zero():
    x, label = blobs(50, 4, 3, seed=1)
    weight, bias = linear_svc(x, label, 3, 0.1)
    weight.requires_grad_()
    y = 2.0 * torch.nn.functional.one_hot(label, 3) - 1
    slack = (1 - y * (x @ weight.T + bias)).clamp(min=0)
    (0.5 * weight.square().sum() + 0.1 * slack.square().sum()).backward()
    assert weight.grad.abs().max() < 1e-9


def test_a_class_without_samples_is_never_predicted():
    x, label = blobs(60, 4, 3, seed=2)
    weight, bias = linear_svc(x, label, 4, 1.0)
    assert (x @ weight.T + bias).argmax(dim=1).max() < 3


def test_a_cost_of_zero_raises_an_error():
    with pytest.raises(ValueError, match="cost must be > 0"):
        linear_svc(torch.ones(2, 1), torch.tensor([0, 1]), 2, 0.0)


def test_the_number_of_steps_is_limited():
    # All samples violate the margin at w = b = 0, so the first step with C = 1/2 solves
    # (1 + sum x^2) w + sum x b = sum y x and sum x w + (1 + N) b = sum y.
    x, label = torch.tensor([[-3.0], [1.0], [10.0]]), torch.tensor([0, 1, 1])
    weight, bias = linear_svc(x, label, 2, 0.5, max_steps=1)  # 111 w + 8 b = 14, 8 w + 4 b = 1
    assert_close(weight[1], torch.tensor([12 / 95], dtype=torch.float64))
    assert_close(bias[1], torch.tensor(-1 / 380, dtype=torch.float64))
    # At the solution the third sample violates nothing: 11 w - 2 b = 4, -2 w + 3 b = 0.
    weight, bias = linear_svc(x, label, 2, 0.5)
    assert_close(weight[1], torch.tensor([12 / 29], dtype=torch.float64))
    assert_close(bias[1], torch.tensor(8 / 29, dtype=torch.float64))
