"""The projector: pinned numbers, closed forms and properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from mla_lightning.functional import (
    balancemm_gradient,
    project_gradient,
    projector_from_means,
    released_alpha,
    update_projector,
    update_projector_,
    update_projector_frobenius_,
    update_projector_released_,
    update_projector_unit_,
)

H1 = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)
H2 = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
G = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]], dtype=torch.float64)
EYE = torch.eye(3, dtype=torch.float64)
IN_PLACE = (
    update_projector_,
    update_projector_frobenius_,
    update_projector_unit_,
    update_projector_released_,
)


def near(actual, expected):
    assert_close(actual, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


def features(number, width, seed=0, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(number, width, generator=rng, dtype=dtype)


def run(update, means, alpha, dtype=torch.float64):
    projector = torch.eye(means.shape[1], dtype=dtype)
    for mean in means:
        update(projector, mean, alpha)
    return projector


def test_two_steps_of_the_recursion():  # E1
    first = update_projector(EYE, H1, 0.1)
    near(first, [[0.803922, -0.392157, 0], [-0.392157, 0.215686, 0], [0, 0, 1]])
    second = update_projector(first, H2, 0.1)
    near(
        second,
        [
            [0.687034, -0.327869, 0.298063],
            [-0.327869, 0.180328, -0.163934],
            [0.298063, -0.163934, 0.239940],
        ],
    )
    near(second.trace(), 1.107303)
    near(second.norm(), 1.004258)
    near(torch.linalg.eigvalsh(second), [0.016393, 0.090909, 1.0])
    assert_close(second, projector_from_means(torch.stack([H1, H2]), 0.1))


def test_the_projected_gradient():  # E1
    projected = project_gradient(G, run(update_projector_, torch.stack([H1, H2]), 0.1))
    near(projected, [[0.388972, -0.163934, 0.058122], [-0.312221, 0.196721, -0.178838]])
    near(projected @ H1, [0.061103, 0.081222])
    near(projected @ H2, [-0.105812, 0.017884])


def test_a_ridge_term_per_step():  # E2
    projector = update_projector(update_projector(EYE, H1, 0.1), H2, 0.01)
    near(
        projector,
        [
            [0.678451, -0.323148, 0.319949],
            [-0.323148, 0.177732, -0.175972],
            [0.319949, -0.175972, 0.184131],
        ],
    )
    ridge = torch.tensor([0.1, 0.01], dtype=torch.float64)
    assert_close(projector, projector_from_means(torch.stack([H1, H2]), ridge))


def test_frobenius_normalisation():  # E3
    projector = update_projector_frobenius_(EYE.clone(), H1, 0.1)
    near(projector, [[0.568404, -0.277270, 0], [-0.277270, 0.152499, 0], [0, 0, 0.707039]])
    update_projector_frobenius_(projector, H2, 0.1)
    near(
        projector,
        [
            [0.685758, -0.327518, 0.286935],
            [-0.327518, 0.180135, -0.157814],
            [0.286935, -0.157814, 0.261300],
        ],
    )


def test_the_released_formula():  # E4
    projector = update_projector_released_(EYE.clone(), H1, 0.1)
    near(projector, [[0.054108, -0.566841, 0], [-0.566841, 0.014517, 0], [0, 0, 0.595183]])
    update_projector_released_(projector, H2, 0.1)
    near(
        projector,
        [
            [-0.666367, -0.123290, -0.152444],
            [-0.102214, 0.002674, -0.015915],
            [0.711670, -0.002622, 0.018060],
        ],
    )
    near(
        project_gradient(G, projector),
        [[-0.513924, -0.086298, 0.693610], [-0.579763, -0.045759, 0.350592]],
    )
    near(
        balancemm_gradient(G, projector),
        [[0.486076, -0.086298, -0.306390], [-0.079763, 1.954241, 0.350592]],
    )


def test_the_released_schedule():
    expected = {0: 0.1, 1: 0.097724, 50: 0.031623, 99: 0.010233}
    assert {b: released_alpha(b, 100) for b in expected} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("number", [1, 4, 32])
@pytest.mark.parametrize("alpha", [1e-2, 1.0])
def test_the_recursion_is_a_ridge_inverse(number, alpha):
    means = features(number, 5)
    inverse = torch.linalg.inv(torch.eye(5, dtype=torch.float64) + means.T @ means / alpha)
    assert_close(run(update_projector_, means, alpha), inverse)
    assert_close(projector_from_means(means, alpha), inverse)


@pytest.mark.parametrize("norm", [1.0, math.sqrt(7)])
def test_normalised_recursions_are_the_plain_one_with_a_growing_ridge(norm):
    """P_t = s_t Q_t, where Q is the plain recursion with ridge alpha / s_{t-1}."""
    update = update_projector_frobenius_ if norm == 1 else update_projector_unit_
    means, plain, scale = features(6, 7), torch.eye(7, dtype=torch.float64), 1.0
    for mean in means:
        plain = update_projector(plain, mean, 0.1 / scale)
        scale = norm / plain.norm().item()
    actual = run(update, means, 0.1)
    assert_close(actual, scale * plain)
    assert actual.norm() == pytest.approx(norm)


def test_the_released_formula_keeps_a_small_feature_that_it_should_remove():
    mean = 0.02 * features(1, 512)[0].abs()
    means = mean + 0.001 * features(60, 512, seed=1)
    unit = mean / mean.norm()
    assert (run(update_projector_released_, means, 0.1) @ unit).norm() > 0.9
    assert (run(update_projector_, means, 0.1) @ unit).norm() < 0.05


@pytest.mark.parametrize("number", [1, 3, 10])
def test_a_repeated_feature_is_shrunk_by_its_energy(number):
    mean, alpha = features(1, 6)[0], 0.3
    projector = run(update_projector_, mean.expand(number, -1), alpha)
    factor = alpha / (alpha + number * mean @ mean)
    assert_close((projector @ mean).norm(), factor * mean.norm())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), number=st.integers(1, 12), alpha=st.floats(1e-3, 10))
def test_properties_for_any_features(seed, number, alpha):
    means = features(number, 6, seed)
    projector = run(update_projector_, means, alpha)
    assert torch.equal(projector, projector.T)
    eigenvalues = torch.linalg.eigvalsh(projector)
    assert eigenvalues.min() > 0
    assert eigenvalues.max() <= 1 + 1e-9
    gradient = features(3, 6, seed + 1)
    assert project_gradient(gradient, projector).norm() <= gradient.norm() * (1 + 1e-9)
    shuffled = means[torch.randperm(number, generator=torch.Generator().manual_seed(seed))]
    assert_close(run(update_projector_, shuffled, alpha), projector)


@pytest.mark.parametrize(("width", "number"), [(8, 10_000), (64, 4000), (512, 400), (768, 200)])
def test_thousands_of_updates_stay_finite_and_symmetric(width, number):
    projector = run(
        update_projector_, features(number, width, dtype=torch.float32), 0.1, torch.float32
    )
    assert projector.isfinite().all()
    assert torch.equal(projector, projector.T)
    assert torch.linalg.eigvalsh(projector.double()).min() > -1e-5


@pytest.mark.parametrize("update", IN_PLACE[:1])
def test_a_zero_feature_changes_nothing(update):
    projector = run(update, features(3, 5), 0.1)
    before = projector.clone()
    assert torch.equal(update(projector, torch.zeros(5, dtype=torch.float64), 0.1), before)


def test_the_pure_form_leaves_its_argument_unchanged():
    update_projector(EYE, H1, 0.1)
    assert torch.equal(EYE, torch.eye(3, dtype=torch.float64))


def test_a_gradient_keeps_its_precision():
    assert project_gradient(G.bfloat16(), EYE.float()).dtype == torch.bfloat16


@pytest.mark.parametrize("update", IN_PLACE)
def test_bad_arguments(update):
    with pytest.raises(ValueError, match="alpha must be > 0"):
        update(EYE.clone(), H1, 0.0)
    with pytest.raises(ValueError, match=r"mean_feature \(D,\)"):
        update(EYE.clone(), H1[:2], 0.1)
    with pytest.raises(ValueError, match="do not fit"):
        project_gradient(G[:, :2], EYE)
