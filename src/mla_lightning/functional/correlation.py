"""Canonical correlation analysis (CCA): its linear solution, and the loss of deep CCA."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_cca(x: Tensor, y: Tensor, ridge: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    r"""Compute the directions along which two modalities correlate most (Hotelling 1936).

    The covariances are divided by N - 1, and ``ridge`` is added to the diagonals of both
    within-modality covariances. With their Cholesky factors
    :math:`S_{11} = L_1 L_1^\top`, :math:`S_{22} = L_2 L_2^\top`, the singular values of
    :math:`L_1^{-1} S_{12} L_2^{-\top}` are the canonical correlations.

    Args:
        x: Features of the first modality, shape (N, D1).
        y: Features of the second modality, shape (N, D2).
        ridge: Added to the diagonals of both covariances, >= 0; needed where there are more
            features than samples.

    Returns:
        ``weights_x`` (D1, K), ``weights_y`` (D2, K) and ``correlations`` (K,) in descending order,
        with K = min(D1, D2), all in float64. Each projection ``x @ weights_x`` has unit variance.
        In theory the sign of a direction is arbitrary; here the largest entry of each column of
        ``weights_x`` is positive.

    Raises:
        ValueError: If the modalities differ in their number of samples, or a covariance is
            singular.

    Example:
        For one feature each, the canonical correlation is the absolute value of Pearson's, and the
        weight is one over the standard deviation:

        >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> y = torch.tensor([[0.0], [1.0], [3.0], [2.0]])
        >>> weights_x, weights_y, correlations = linear_cca(x, -y)
        >>> correlations.round(decimals=4).tolist()
        [0.8]
        >>> weights_x.round(decimals=4).tolist(), round(1 / x.std().item(), 4)
        ([[0.7746]], 0.7746)
        >>> weights_y.sign().tolist()  # negative, since -y was given
        [[-1.0]]
    """
    chol_x, chol_y, cross = _whitening(x.double(), y.double(), ridge)
    whitened = _solve(chol_y, _solve(chol_x, cross).mT).mT
    left, correlations, right = torch.linalg.svd(whitened, full_matrices=False)
    weights_x = torch.linalg.solve_triangular(chol_x.mT, left, upper=True)
    weights_y = torch.linalg.solve_triangular(chol_y.mT, right.mT, upper=True)
    largest = weights_x.abs().argmax(dim=0, keepdim=True)
    sign = weights_x.gather(0, largest).sign()
    return weights_x * sign, weights_y * sign, correlations


def dcca_loss(h1: Tensor, h2: Tensor, ridge: float = 1e-3) -> Tensor:
    r"""Compute the negative total correlation of two batches of features (Andrew et al. 2013).

    This is minus the sum of the singular values of the whitened cross-covariance. Cholesky factors
    whiten: they give the same value and gradient as eigenvectors do, and the gradient stays finite
    where eigenvalues repeat. Computed in float64, outside autocast.

    Args:
        h1: Features of the first modality, shape (B, K1).
        h2: Features of the second modality, shape (B, K2).
        ridge: Added to the diagonals of both covariances, > 0.

    Returns:
        A scalar between -min(K1, K2) and 0.

    Raises:
        ValueError: If the batch has no more than max(K1, K2) + 1 samples, since all correlations
            are then 1 for any features, or if a covariance is singular.

    Example:
        For one feature each, the loss is minus :math:`|s_{12}| / \sqrt{(s_{11} + r)(s_{22} + r)}`;
        here both variances are 5/3, the covariance is 4/3 and r is the ridge:

        >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> y = torch.tensor([[0.0], [1.0], [3.0], [2.0]])
        >>> round(dcca_loss(x, y, ridge=0.0).item(), 4)
        -0.8
        >>> round(dcca_loss(x, y, ridge=1.0).item(), 4)
        -0.5
    """
    width = max(h1.shape[1], h2.shape[1])
    if len(h1) <= width + 1:
        raise ValueError(
            f"{len(h1)} samples are too few for {width} features: every correlation would be 1, "
            f"whatever the features. Use batches of more than {width + 1} samples, better "
            f"{25 * width}."
        )
    with torch.autocast(h1.device.type, enabled=False):
        chol_1, chol_2, cross = _whitening(h1.double(), h2.double(), ridge)
        whitened = _solve(chol_2, _solve(chol_1, cross).mT).mT
        return -torch.linalg.svdvals(whitened).sum()


def _whitening(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the Cholesky factors of both covariances, and the cross-covariance."""
    if len(x) != len(y):
        raise ValueError(
            f"the two modalities differ in their number of samples: {len(x)} and {len(y)}"
        )
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    factors = []
    for centred in (x, y):
        covariance = centred.mT @ centred / (len(x) - 1)
        covariance = covariance + ridge * torch.eye(centred.shape[1]).to(covariance)
        factor, error_code = torch.linalg.cholesky_ex(covariance)
        if error_code:
            raise ValueError(
                f"the covariance of {centred.shape[1]} features over {len(x)} samples is singular; "
                f"use a ridge above {ridge}"
            )
        factors.append(factor)
    return factors[0], factors[1], x.mT @ y / (len(x) - 1)


def _solve(factor: Tensor, right_side: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(factor, right_side, upper=False)
