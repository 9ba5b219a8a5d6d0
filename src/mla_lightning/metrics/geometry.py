"""Geometry of the modalities' features: the gap between them, and planes to draw them in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize


def modality_gap(a: Tensor, b: Tensor) -> float:
    r"""Compute the distance of two modalities' mean normalised features.

    .. math:: \| \mathrm{mean}\, \hat a_n - \mathrm{mean}\, \hat b_n \|_2, \quad
        \hat a_n = a_n / \|a_n\|

    Liang et al., "Mind the Gap", NeurIPS 2022.

    Args:
        a: Features of one modality (N, D).
        b: Features of another one (N', D).

    Returns:
        The distance, in [0, 2].

    Example:
        >>> a = torch.tensor([[1.0, 0.0], [5.0, 0.0]])
        >>> modality_gap(a, a), modality_gap(a, -a)  # equal and opposite directions
        (0.0, 2.0)
    """
    means = [normalize(x.double(), dim=1).mean(dim=0) for x in (a, b)]
    return float((means[0] - means[1]).norm())


def principal_plane(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    r"""Project the features of all modalities to one plane: the first two principal components.

    Each feature is divided by its length first, as for the gap; the features of all modalities are
    centred together. The largest entry of each component is positive, so that equal features give
    equal pictures.

    .. math:: y_n = V_2^T (\hat h_n - \mathrm{mean}\, \hat h), \quad \hat h_n = h_n / \|h_n\|,

    with :math:`V_2` the first two right singular vectors of the centred rows (Pearson 1901).

    Args:
        features: Modality -> features (N_m, D) of the samples that have it, all of one width.

    Returns:
        Modality -> coordinates (N_m, 2).

    Example:
        >>> features = {"audio": torch.tensor([[3.0, 0.0]]), "visual": torch.tensor([[0.0, 5.0]])}
        >>> plane = principal_plane(features)
        >>> (plane["audio"] - plane["visual"]).norm().item()  # between unit vectors: sqrt(2)
        1.4142...
    """
    joined = torch.cat([normalize(x.double(), dim=1) for x in features.values()])
    centred = joined - joined.mean(dim=0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    largest = axes.abs().argmax(dim=1, keepdim=True)
    plane = centred @ (axes * axes.gather(1, largest).sign()).T
    return dict(zip(features, plane.split([len(x) for x in features.values()]), strict=True))


def tsne_plane(features: Mapping[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Project the features of all modalities to one plane by t-SNE (van der Maaten 2008).

    Args:
        features: Modality -> features (N_m, D) of the samples that have it, all of one width.
        seed: Seed of t-SNE.

    Returns:
        Modality -> coordinates (N_m, 2).

    Example:
        >>> features = {"audio": torch.randn(4, 3), "visual": torch.randn(3, 3)}
        >>> {name: plane.shape for name, plane in tsne_plane(features).items()}
        {'audio': torch.Size([4, 2]), 'visual': torch.Size([3, 2])}
    """
    from sklearn.manifold import TSNE

    joined = torch.cat([normalize(x.double(), dim=1) for x in features.values()]).numpy()
    perplexity = min(30.0, max(1.0, (len(joined) - 1) / 3))
    plane = TSNE(2, perplexity=perplexity, random_state=seed, init="pca").fit_transform(joined)
    coordinates = torch.from_numpy(plane).split([len(x) for x in features.values()])
    return dict(zip(features, coordinates, strict=True))


def umap_plane(features: Mapping[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Project the features of all modalities to one plane by UMAP (McInnes et al. 2018).

    Needs the extra ``umap``.

    Args:
        features: Modality -> features (N_m, D) of the samples that have it, all of one width.
        seed: Seed of UMAP, which then computes in one thread.

    Returns:
        Modality -> coordinates (N_m, 2); empty with fewer than 16 features, as each is placed by
        its 15 nearest ones.

    Example:
        >>> umap_plane({"audio": torch.randn(4, 3), "visual": torch.randn(3, 3)})
        {}
    """
    joined = torch.cat([normalize(x.double(), dim=1) for x in features.values()]).numpy()
    if len(joined) < 16:
        return {}
    from umap import UMAP

    plane = UMAP(n_neighbors=15, random_state=seed, n_jobs=1).fit_transform(joined)
    coordinates = torch.from_numpy(plane).split([len(x) for x in features.values()])
    return dict(zip(features, coordinates, strict=True))
