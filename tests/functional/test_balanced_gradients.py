"""Coefficients and combinations of MLB, MMPareto, CGGM and AMSS against numbers found by hand."""

import math

import pytest
import torch

from mla_lightning import functional as F
from mla_lightning.metrics.forgetting import gradient_cosines


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def near(*numbers):
    return pytest.approx(list(numbers), abs=6e-7, rel=1e-6)


@pytest.mark.parametrize(
    ("scores", "alpha", "beta", "expected"),
    [
        ((0.8, 0.4), 1.0, None, (0.537883, 1.761594)),
        ((0.6, 0.5, 0.2), 0.8, None, (0.678487, 0.841351, 1.885352)),
        ((0.8, 0.4), 1.0, 3.0, (0.537883, 2.523188)),
        ((0.8, 0.4), 0.0, None, (1.0, 1.0)),
        ((0.3, 0.3), 5.0, None, (1.0, 1.0)),
        ((0.0, 0.0), 1.0, None, (1.0, 1.0)),
        ((0.5, 0.0), 1.0, None, (1 - math.tanh(1), 2.0)),
    ],
)
def test_coefficients_of_mlb(scores, alpha, beta, expected):
    assert F.mlb_coefficients(vector(*scores), alpha, beta).tolist() == near(*expected)


def test_a_factor_of_two_is_the_default_of_mlb():
    scores = vector(0.6, 0.5, 0.2)
    assert torch.equal(F.mlb_coefficients(scores, 0.8, 2.0), F.mlb_coefficients(scores, 0.8))
    for alpha, beta in ((-0.1, None), (1.0, 0.5)):
        with pytest.raises(ValueError, match="alpha must be >= 0 and beta >= 1"):
            F.mlb_coefficients(scores, alpha, beta)


@pytest.mark.parametrize(
    ("g", "u", "cosine", "weight", "direction", "factor", "expected"),
    [
        ((1, 2), (-2, 0.5), -0.216930, 0.466667, (-1.2, 2.4), 1.003466, (-1.806239, 3.612478)),
        ((1, 2), (2, 0.5), 0.650791, 0.5, (3.0, 2.5), 1.0, (4.5, 3.75)),
        (
            *((1, 0), (-3, 1), -3 / math.sqrt(10), 0.764706),
            *((0.117647, 0.470588), 4.609772, (0.813489, 3.253957)),
        ),
    ],
)
def test_pareto_gradients(g, u, cosine, weight, direction, factor, expected):
    g, u = vector(*g), vector(*u)
    assert gradient_cosines({"g": g, "u": u})["g", "u"] == pytest.approx(cosine, abs=6e-7)
    c = F.pareto_weight([g], [u])
    assert float(c) == pytest.approx(weight, abs=6e-7)
    for per_tensor in (True, False):
        (d,) = F.pareto_gradients([g + u], [u], per_tensor=per_tensor)
        assert d.tolist() == near(*expected)
        assert (d / (1.5 * factor)).tolist() == near(*direction)
    plain = 2 * c * g + 2 * (1 - c) * u
    assert float(d.norm() / plain.norm() / 1.5) == pytest.approx(factor, abs=6e-7)
    if weight < 0.5:
        assert plain.tolist() == near(-1.2, 2.4)
        assert [float(plain @ g), float(plain @ u)] == near(3.6, 3.6)


def test_a_pareto_direction_lowers_both_losses_as_no_other_of_its_length_does():
    rng = torch.Generator().manual_seed(0)
    for _ in range(50):
        g, u = torch.randn(2, 5, generator=rng, dtype=torch.float64)
        c = float(F.pareto_weight([g[:2], g[2:]], [u[:2], u[2:]]))
        if g @ u > 0:
            assert c == 0.5
            continue
        assert 0 < c < 1
        lengths = [float((w * g + (1 - w) * u).norm()) for w in torch.linspace(0, 1, 101).tolist()]
        assert float((c * g + (1 - c) * u).norm()) <= min(lengths) + 1e-12


def test_pareto_gradients_without_conflict_are_the_sum_to_the_last_bit():
    rng = torch.Generator().manual_seed(1)
    u = [torch.randn(3, 2, generator=rng), torch.randn(4, generator=rng)]
    total = [2.3 * x + 0.1 for x in u]
    for per_tensor in (True, False):
        combined = F.pareto_gradients(total, u, 1.0, per_tensor=per_tensor)
        assert all(torch.equal(d, s) for d, s in zip(combined, total, strict=True))


def test_lengths_are_restored_for_each_tensor_or_for_the_encoder():
    g, u = [vector(1, 0), vector(0, 2)], [vector(-3, 1), vector(0, 1)]
    total = [a + b for a, b in zip(g, u, strict=True)]
    apart = F.pareto_gradients(total, u, 1.0)
    whole = F.pareto_gradients(total, u, 1.0, per_tensor=False)
    for d, s in zip(apart, total, strict=True):
        assert float(d.norm()) >= float(s.norm()) - 1e-12
    assert float(torch.cat(whole).norm()) == pytest.approx(float(torch.cat(total).norm()))
    assert not torch.allclose(torch.cat(apart), torch.cat(whole))


def test_pareto_gradients_of_zeros_and_opposites_are_zeros():
    zero, g = vector(0, 0), vector(1, -2)
    assert float(F.pareto_weight([zero], [zero])) == 0.5
    for total, u in ((zero, zero), (zero, -g), (g, g)):  # nothing, opposites, no joint gradient
        assert F.pareto_gradients([total], [u])[0].tolist() == [0, 0]
    half = F.pareto_gradients([g.half()], [(2 * g).half()])[0]
    assert half.dtype == torch.float16


@pytest.mark.parametrize(
    ("changes", "bounds", "expected"),
    [
        ((0.02, 0.06), None, (0.75, 0.25)),
        ((0.02, -0.05), None, (1.666667, -0.666667)),
        ((0.02, -0.05), (0, 2), (1.666667, 0.0)),
        ((0.01, 0.02, 0.03), None, (0.833333, 0.666667, 0.5)),
        ((0.02, -0.0199), None, (-198.980002, 199.980102)),
        ((0.02, -0.0199), (0, 2), (0.0, 2.0)),
        ((0.0, 0.0), (0, 2), (1.0, 1.0)),
    ],
)
def test_coefficients_of_cggm(changes, bounds, expected):
    k = F.cggm_coefficients(vector(*changes), bounds)
    assert k.tolist() == near(*expected)
    if bounds is None:
        assert float(k.sum()) == pytest.approx(len(changes) - 1, abs=2e-4)


def test_coefficients_of_cggm_by_whole_numbers_are_those_of_their_quotients():
    whole, quotients = torch.tensor([17, -5, 2]), vector(0.17, -0.05, 0.02)
    k = F.cggm_coefficients(whole, unit=0.01)
    assert k.tolist() == pytest.approx(F.cggm_coefficients(quotients).tolist(), rel=1e-6)
    assert F.cggm_coefficients(torch.tensor([1, -1]), unit=1e-4).tolist() == pytest.approx(
        [-9999.0, 10001.0], rel=1e-6
    )


def test_direction_loss_of_cggm():
    k, cosines = vector(0.75, 0.25), vector(0.2, 0.6)
    assert float(F.direction_loss(k, cosines)) == pytest.approx(0.35)
    assert (1.3 * k).tolist() == near(0.975, 0.325)
    assert float(F.direction_loss(-k, -cosines)) == pytest.approx(0.35)
    assert float(F.direction_loss(k, vector(1, 1))) == 0


def test_entropies_of_labels():
    shares = torch.bincount(torch.tensor([0, 0, 1, 2])).double() / 4
    assert float(F.label_entropy(shares)) == pytest.approx(1.039721, abs=6e-7)
    assert float(F.label_entropy(shares, released=True)) == pytest.approx(1.064070, abs=6e-7)
    assert float(F.label_entropy(vector(0, 1))) == 0


@pytest.mark.parametrize(
    ("losses", "entropies", "expected"),
    [
        ((1.2, 1.6), (5, 4), (0.443478, 0.556522)),
        ((1.2, 1.6, 1.4), (5, 4, 4.5), (0.629751, 0.704958, 0.665291)),
        ((1.2, 2.6), (5, 4), (0.5, 0.5)),
        ((0.1, 2.2), (2, 4), (0.1, 0.9)),
    ],
)
def test_keep_ratios(losses, entropies, expected):
    ratios = F.keep_ratios(vector(*losses), math.log(6), vector(*entropies))
    assert ratios.tolist() == near(*expected)
    rates = (vector(1.2, 1.6) * -1 + math.log(6) + 0.5) / vector(5, 4)
    assert rates.tolist() == near(0.218352, 0.172940)
    assert bool(F.keep_ratios(vector(0.1, 0.1), 1.0, vector(0, 1)).isfinite().all())


def test_factors_of_subnetworks():
    importance, rng = vector(4, 1, 0, 3), torch.Generator().manual_seed(0)
    every = F.subnetwork_factors(importance, 1.0, torch.rand(4, generator=rng), unbiased=True)
    assert every.tolist() == near(1.333333, 2.666667, 4.0, 1.6)
    for keep, number in ((0.49, 2), (0.51, 3), (0.1, 1), (1.0, 4)):
        uniform = torch.rand(4, generator=rng, dtype=torch.float64)
        factors = F.subnetwork_factors(importance, keep, uniform)
        assert sorted(factors.tolist()) == [0.0] * (4 - number) + [1.0] * number
        corrected = F.subnetwork_factors(importance, keep, uniform, unbiased=True)
        assert torch.equal(corrected, every * factors)
    even = F.subnetwork_factors(vector(0, 0), 1.0, vector(0.3, 0.6), unbiased=True)
    assert even.tolist() == [1.0, 1.0]


def test_filters_are_drawn_by_importance_without_replacement():
    """Probabilities of pairs are those of successive draws: p_i p_j / (1 - p_i), and reversed."""
    importance, rng = vector(4, 1, 0, 3), torch.Generator().manual_seed(0)
    rows = 40_000
    uniform = torch.rand(rows, 4, generator=rng, dtype=torch.float64)
    drawn = F.subnetwork_factors(importance.expand(rows, 4), 0.5, uniform)
    assert drawn.sum(dim=1).unique().tolist() == [2.0]
    p = (importance / importance.sum()).tolist()
    pair = lambda i, j: p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j]))  # noqa: E731
    for i, j in ((0, 1), (0, 3), (1, 3)):
        assert float((drawn[:, i] * drawn[:, j]).mean()) == pytest.approx(pair(i, j), abs=0.01)
    assert float(drawn[:, 2].sum()) == 0
