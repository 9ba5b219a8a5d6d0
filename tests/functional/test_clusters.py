"""Clusters of features, their purity, and how far it pulls an encoder back."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.preprocessing import MinMaxScaler

from mla_lightning.functional import k_means, purity, relearning_weights, scale_columns


def blobs(number=40, num_clusters=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    label = torch.arange(number) % num_clusters
    centres = 20 * torch.eye(num_clusters, 5, dtype=torch.float64)
    return centres[label] + torch.randn(number, 5, generator=rng, dtype=torch.float64), label


def test_the_purity_is_that_counted_by_hand():
    label, cluster = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 1, 2])
    assert float(purity(label, cluster)) == pytest.approx(0.833333, abs=1e-6)
    assert float(purity(label, torch.zeros(6, dtype=torch.int64))) == 0.5
    assert float(purity(label, torch.arange(6) + 3)) == 1  # numbers of clusters may be left out
    assert float(purity(label + 2, cluster)) == float(purity(label, cluster))


def test_weights_are_the_tanh_of_the_gap():
    assert float(relearning_weights(torch.tensor([0.2]), 3.0)) == pytest.approx(0.537050, abs=1e-6)
    weights = relearning_weights(torch.tensor([0.05, 0.3, 0.0], dtype=torch.float64), 3.0)
    assert weights.tolist() == pytest.approx([0.148885, 0.716298, 0], abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_clusters_far_apart_are_found_whatever_the_draws(seed):
    x, label = blobs()
    cluster = k_means(x, 4, seed)
    found = {(int(a), int(b)) for a, b in zip(label, cluster, strict=True)}
    assert len(found) == 4
    expected = KMeans(4, random_state=0).fit_predict(x.numpy())
    assert len({(int(a), int(b)) for a, b in zip(expected, cluster, strict=True)}) == 4


def test_every_point_is_in_the_cluster_with_the_nearest_mean():
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    cluster = k_means(x, 5, 0)
    means = torch.stack([x[cluster == k].mean(dim=0) for k in range(5)])
    assert torch.equal(torch.cdist(x, means).argmin(dim=1), cluster)
    best = KMeans(5, n_init=20, random_state=0).fit(x.numpy()).inertia_
    assert float((x - means[cluster]).square().sum()) < 1.3 * best


def test_clusters_depend_on_points_and_seed_alone():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(1))
    before = torch.get_rng_state()
    assert torch.equal(k_means(x, 4, 3), k_means(x, 4, 3))
    assert torch.equal(before, torch.get_rng_state())
    assert not all(torch.equal(k_means(x, 4, 3), k_means(x, 4, seed)) for seed in range(5))


def test_equal_points_and_too_few_points():
    assert k_means(torch.zeros(5, 2), 3, 0).tolist() == [0] * 5
    with pytest.raises(ValueError, match="2 points cannot be divided into 3 clusters"):
        k_means(torch.zeros(2, 2), 3, 0)


def test_columns_are_scaled_as_scikit_learn_does():
    x = torch.randn(20, 3, dtype=torch.float64)
    x[:, 1] = 4.0
    expected = MinMaxScaler(feature_range=(-1, 1)).fit_transform(x.numpy())
    np.testing.assert_allclose(scale_columns(x).numpy(), expected, atol=1e-12)
