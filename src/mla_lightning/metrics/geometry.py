"""Where the modalities' features lie: the gap between them, and a plane to look at."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize


def modality_gap(a: Tensor, b: Tensor) -> float:
    r"""Measure the distance of two modalities' mean normalised features.

    .. math:: \| \mathrm{mean}\, \hat a_n - \mathrm{mean}\, \hat b_n \|_2, \quad
        \hat a_n = a_n / \|a_n\|

    Liang et al., "Mind the Gap", NeurIPS 2022. Between 0 and 2.

    Args:
        a: Features of one modality (N, D).
        b: Features of another one (N', D).

    Returns:
        The distance.
    """
    means = [normalize(x.double(), dim=1).mean(dim=0) for x in (a, b)]
    return float((means[0] - means[1]).norm())


def principal_plane(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    r"""Draw the features of all modalities into one plane: the first two principal components.

    Each feature is divided by its length first, as for the gap; features are centred together.
    Signs are chosen so that the largest entry of each component is positive, so that equal
    features give equal pictures.

    .. math:: y_n = V_2^T (\hat h_n - \mathrm{mean}\, \hat h), \quad \hat h_n = h_n / \|h_n\|,

    with :math:`V_2` the first two right singular vectors of the centred rows (Pearson 1901).

    Args:
        features: Modality -> (N_m, D), all of one width; of present samples alone.

    Returns:
        Modality -> (N_m, 2).
    """
    whole = torch.cat([normalize(x.double(), dim=1) for x in features.values()])
    centred = whole - whole.mean(dim=0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    largest = axes.abs().argmax(dim=1, keepdim=True)
    plane = centred @ (axes * axes.gather(1, largest).sign()).T
    return dict(zip(features, plane.split([len(x) for x in features.values()]), strict=True))


def tsne_plane(features: Mapping[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Draw the features of all modalities into one plane by t-SNE (van der Maaten 2008).

    Args:
        features: Modality -> (N_m, D), all of one width; of present samples alone.
        seed: Draws what is random in it.

    Returns:
        Modality -> (N_m, 2).
    """
    from sklearn.manifold import TSNE

    whole = torch.cat([normalize(x.double(), dim=1) for x in features.values()]).numpy()
    perplexity = min(30.0, max(1.0, (len(whole) - 1) / 3))
    plane = TSNE(2, perplexity=perplexity, random_state=seed, init="pca").fit_transform(whole)
    pieces = torch.from_numpy(plane).split([len(x) for x in features.values()])
    return dict(zip(features, pieces, strict=True))
