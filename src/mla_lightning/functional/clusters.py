"""Clusters of features, and what they say of an encoder that memorises.

Source: Diagnosing & Re-learning (ECCV 2024), the purity gap.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Most iterations of :func:`k_means`.
MAX_ITERATIONS = 300


def scale_columns(x: Tensor) -> Tensor:
    """Scale each column linearly to the range from -1 to 1.

    Args:
        x: Features (N, D).

    Returns:
        (N, D); a constant column is -1.

    Example:
        >>> scale_columns(torch.tensor([[0.0, 5.0], [1.0, 5.0], [4.0, 5.0]]))
        tensor([[-1.0000, -1.0000],
                [-0.5000, -1.0000],
                [ 1.0000, -1.0000]])
    """
    low, high = x.min(dim=0).values, x.max(dim=0).values
    extent = high - low
    return 2 * (x - low) / torch.where(extent > 0, extent, torch.ones_like(extent)) - 1


def k_means(x: Tensor, num_clusters: int, seed: int) -> Tensor:
    """Divide points into clusters by Lloyd's algorithm.

    The first centres are drawn one by one, with probabilities proportional to the squared distance
    from the nearest one so far (k-means++, Arthur and Vassilvitskii, 2007). A cluster that becomes
    empty keeps its centre.

    Args:
        x: Points (N, D).
        num_clusters: Number of clusters K.
        seed: Seed of the draws, the only source of randomness.

    Returns:
        The cluster of each point (N,), from 0 to K - 1.

    Raises:
        ValueError: If there are fewer points than clusters.

    Example:
        >>> x = torch.tensor([[0.0], [10.0], [0.1], [10.1]])
        >>> cluster = k_means(x, 2, seed=0)
        >>> bool(cluster[0] == cluster[2]), bool(cluster[1] == cluster[3])
        (True, True)
        >>> bool(cluster[0] == cluster[1])
        False
    """
    if len(x) < num_clusters:
        raise ValueError(f"{len(x)} points cannot be divided into {num_clusters} clusters")
    generator = torch.Generator().manual_seed(seed)
    centres = x[torch.randint(len(x), (1,), generator=generator).to(x.device)]
    while len(centres) < num_clusters:
        distances = _squared_distances(x, centres).min(dim=1).values
        if not distances.sum() > 0:  # all points are centres
            distances = torch.ones_like(distances)
        drawn = torch.rand(1, generator=generator, dtype=torch.float64).to(x.device)
        shares = distances.double().cumsum(dim=0)
        number = torch.searchsorted(shares, drawn * shares[-1], right=True).clamp(max=len(x) - 1)
        centres = torch.cat([centres, x[number]])
    cluster = _squared_distances(x, centres).argmin(dim=1)
    for _ in range(MAX_ITERATIONS):
        is_in_NK = torch.nn.functional.one_hot(cluster, num_clusters).to(x.dtype)
        sizes = is_in_NK.sum(dim=0)[:, None]
        means = is_in_NK.T @ x / sizes.clamp(min=1)
        centres = torch.where(sizes > 0, means, centres)
        nearest = _squared_distances(x, centres).argmin(dim=1)
        if torch.equal(nearest, cluster):
            break
        cluster = nearest
    return cluster


def _squared_distances(x: Tensor, centres: Tensor) -> Tensor:
    """Return (N, K) squared distances."""
    return torch.stack([(x - centre).square().sum(dim=1) for centre in centres], dim=1)


def purity(label: Tensor, cluster: Tensor) -> Tensor:
    """Compute the fraction of samples that have the most frequent class of their cluster.

    Args:
        label: Classes (N,), numbers from 0.
        cluster: Clusters (N,), numbers from 0.

    Returns:
        A scalar in double precision.

    Example:
        Three clusters; the second has a sample of another class:

        >>> label = torch.tensor([0, 0, 0, 1, 1, 2])
        >>> purity(label, torch.tensor([0, 0, 1, 1, 1, 2]))
        tensor(0.8333, dtype=torch.float64)
    """
    num_classes = int(label.max()) + 1
    counts = torch.bincount(cluster * num_classes + label)
    counts = torch.nn.functional.pad(counts, (0, -len(counts) % num_classes))
    return counts.view(-1, num_classes).max(dim=1).values.sum().double() / len(label)


def relearning_weights(gaps: Tensor, strength: float) -> Tensor:
    r"""Compute how far each encoder is pulled back: :math:`w_m = \tanh(\lambda \Delta_m)`.

    Args:
        gaps: Absolute difference of the purities on training and on held-out samples, shape (M,).
        strength: The strength lambda.

    Returns:
        Weights of the initial parameters, shape (M,), from 0 to 1.

    Example:
        >>> relearning_weights(torch.tensor([0.05, 0.3, 0.0]), 3.0)
        tensor([0.1489, 0.7163, 0.0000])
    """
    return (strength * gaps).tanh()
