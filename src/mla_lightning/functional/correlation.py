"""Canonical correlation: the linear solution, and the loss of its deep form."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_cca(x: Tensor, y: Tensor, ridge: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    r"""Find the directions of two views that correlate most (Hotelling 1936).

    With covariances over N - 1 and ``ridge`` added to both diagonals, and Cholesky factors
    :math:`S_{11} = L_1 L_1^\top`, :math:`S_{22} = L_2 L_2^\top`, the singular values of
    :math:`L_1^{-1} S_{12} L_2^{-\top}` are the correlations.

    Args:
        x: First view (N, D1).
        y: Second view (N, D2).
        ridge: Added to the diagonals of both covariances, >= 0; needed where features outnumber
            samples.

    Returns:
        ``weights_x`` (D1, K), ``weights_y`` (D2, K) and ``correlations`` (K,), descending, with
        K = min(D1, D2), in float64. The projections have unit variance. Signs are arbitrary in
        theory; here the largest entry of each column of ``weights_x`` is positive.

    Raises:
        ValueError: If the views differ in length, or a covariance is singular.
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
    r"""Compute minus the total correlation of two batches of features (Andrew et al. 2013).

    The sum of singular values of the whitened cross-covariance. Whitening is by Cholesky factors:
    the same value and gradient as by eigenvalues, but finite where eigenvalues repeat. Computed
    in float64, outside autocast.

    Args:
        h1: Features of the first view (B, K1).
        h2: Features of the second view (B, K2).
        ridge: Added to the diagonals of both covariances, > 0.

    Returns:
        A number between -min(K1, K2) and 0.

    Raises:
        ValueError: If the batch has no more than K + 1 samples, where all correlations are 1
            whatever the features, or if a covariance is singular.
    """
    width = max(h1.shape[1], h2.shape[1])
    if len(h1) <= width + 1:
        raise ValueError(
            f"{len(h1)} samples cannot tell {width} features apart: every correlation would be 1. "
            f"Use batches of more than {width + 1}, better {25 * width}."
        )
    with torch.autocast(h1.device.type, enabled=False):
        chol_1, chol_2, cross = _whitening(h1.double(), h2.double(), ridge)
        whitened = _solve(chol_2, _solve(chol_1, cross).mT).mT
        return -torch.linalg.svdvals(whitened).sum()


def _whitening(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the Cholesky factors of both covariances, and the cross-covariance."""
    if len(x) != len(y):
        raise ValueError(f"the views differ in length: {len(x)} and {len(y)}")
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    factors = []
    for view in (x, y):
        covariance = view.mT @ view / (len(x) - 1)
        covariance = covariance + ridge * torch.eye(view.shape[1]).to(covariance)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if failed:
            raise ValueError(
                f"a covariance of {view.shape[1]} features over {len(x)} samples is singular; "
                f"use a ridge above {ridge}"
            )
        factors.append(factor)
    return factors[0], factors[1], x.mT @ y / (len(x) - 1)


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(factor, right, upper=False)
