r"""Head gradient modification: a projector that shrinks what earlier steps were trained on.

Notation: ``P_DD`` projector, ``r_D`` mean feature of a batch, ``G_CD`` gradient of the head's
weight. Source: MLA (CVPR 2024), gradient modification; the recursion is that of OWM (Zeng et al.,
Nature Machine Intelligence 2019).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def update_projector(projector: Tensor, mean_feature: Tensor, alpha: float) -> Tensor:
    r"""Shrink the projector along a batch's mean feature (rank-one recursion).

    .. math:: P' = P - \frac{(P r)(P r)^\top}{\alpha + r^\top P r}

    Started from the identity and with constant ``alpha`` this is
    :math:`(I + \frac1\alpha \sum_i r_i r_i^\top)^{-1}` (Sherman-Morrison): symmetric, eigenvalues
    in (0, 1], ``alpha / (alpha + s)`` along a direction of energy ``s``.

    Args:
        projector: P, symmetric, shape (D, D); left untouched.
        mean_feature: r, shape (D,).
        alpha: Ridge term, > 0. Smaller protects more.

    Returns:
        P', shape (D, D).

    Raises:
        ValueError: If shapes do not fit or ``alpha`` is not positive.
    """
    return update_projector_(projector.clone(), mean_feature, alpha)


def update_projector_(projector: Tensor, mean_feature: Tensor, alpha: float) -> Tensor:
    """Apply :func:`update_projector` in place.

    One matrix-vector product and one rank-one update; a new matrix per term would cost ten times
    as much. The update adds the same number to both halves, so symmetry is kept exactly.

    Args:
        projector: P, changed in place, shape (D, D).
        mean_feature: r, shape (D,).
        alpha: Ridge term, > 0.

    Returns:
        ``projector``.
    """
    _check(projector, mean_feature, alpha)
    k_D = projector @ mean_feature
    # Scaled before the outer product: k k^T / den from one vector is symmetric to the last bit.
    k_D /= torch.sqrt(alpha + mean_feature @ k_D)
    return projector.addr_(k_D, k_D, alpha=-1)


def update_projector_frobenius_(projector: Tensor, mean_feature: Tensor, alpha: float) -> Tensor:
    """Update in place, then divide by the Frobenius norm, as the released code does.

    The direction of the gradient hardly changes, but it shrinks to about ``1 / sqrt(D)``.

    Args:
        projector: P, changed in place, shape (D, D).
        mean_feature: r, shape (D,).
        alpha: Ridge term, > 0.

    Returns:
        ``projector``, of Frobenius norm 1.
    """
    update_projector_(projector, mean_feature, alpha)
    return projector.div_(projector.norm())


def update_projector_unit_(projector: Tensor, mean_feature: Tensor, alpha: float) -> Tensor:
    """Update in place, then scale to the Frobenius norm of the identity.

    Keeps the head's step size on average where the plain recursion lets it die out: directions not
    yet used grow as others shrink.

    Args:
        projector: P, changed in place, shape (D, D).
        mean_feature: r, shape (D,).
        alpha: Ridge term, > 0.

    Returns:
        ``projector``, of Frobenius norm sqrt(D).
    """
    update_projector_(projector, mean_feature, alpha)
    return projector.mul_(math.sqrt(projector.shape[0]) / projector.norm())


def update_projector_released_(projector: Tensor, mean_feature: Tensor, alpha: float) -> Tensor:
    """Update in place by the formula of the released code, had it ever run.

    It divides element by element, by ``alpha + k_i r_j`` where the recursion has the scalar
    ``alpha + r^T k``, and then by the Frobenius norm. The result is not symmetric and
    its eigenvalues are not those of a projector: for features of small norm it comes to keep the
    mean feature, the direction that it should remove.

    Args:
        projector: P, changed in place, shape (D, D).
        mean_feature: r, shape (D,).
        alpha: Ridge term, > 0.

    Returns:
        ``projector``, of Frobenius norm 1.
    """
    _check(projector, mean_feature, alpha)
    k_D = projector @ mean_feature
    projector.sub_(torch.outer(k_D, k_D) / (alpha + torch.outer(k_D, mean_feature)))
    return projector.div_(projector.norm())


def projector_of(mean_features: Tensor, alpha: float | Tensor) -> Tensor:
    r"""Compute the recursion's closed form from all mean features at once.

    .. math:: P = I - A (A^\top A + \mathrm{diag}(\alpha))^{-1} A^\top

    Args:
        mean_features: The columns of A as rows, shape (T, D).
        alpha: One ridge term, or one per mean feature, shape (T,).

    Returns:
        P, shape (D, D).
    """
    a_DT = mean_features.T
    ridge = torch.diag(torch.as_tensor(alpha, dtype=a_DT.dtype).expand(a_DT.shape[1]))
    identity = torch.eye(a_DT.shape[0], dtype=a_DT.dtype)
    return identity - a_DT @ torch.linalg.solve(a_DT.T @ a_DT + ridge, a_DT.T)


def project_gradient(gradient: Tensor, projector: Tensor) -> Tensor:
    r"""Project the head's gradient on its input side: :math:`G P^\top`.

    Args:
        gradient: G, shape (C, D).
        projector: P, shape (D, D).

    Returns:
        The projected gradient, shape (C, D), in the gradient's precision.

    Raises:
        ValueError: If shapes do not fit.
    """
    if gradient.ndim != 2 or projector.shape != (gradient.shape[1],) * 2:
        raise ValueError(
            f"gradient (C, D) and projector (D, D) do not fit: got {tuple(gradient.shape)} and "
            f"{tuple(projector.shape)}"
        )
    return (gradient.to(projector.dtype) @ projector.T).to(gradient.dtype)


def balancemm_gradient(gradient: Tensor, projector: Tensor) -> Tensor:
    """Add the projected gradient to the raw one, as the BalanceBenchmark toolkit does: G + G P^T.

    Args:
        gradient: G, shape (C, D).
        projector: P, shape (D, D).

    Returns:
        The gradient that its optimiser sees, shape (C, D).
    """
    return gradient + project_gradient(gradient, projector)


def released_alpha(batch: int, num_batches: int) -> float:
    """Tell the ridge term of the released code: from 0.1 down to almost 0.01 within each epoch.

    Args:
        batch: The batch's number in its epoch, from 0.
        num_batches: Batches per epoch, >= 1.

    Returns:
        ``0.1 ** (batch / num_batches + 1)``.
    """
    return float(0.1 ** (batch / num_batches + 1))


def _check(projector: Tensor, mean_feature: Tensor, alpha: float) -> None:
    if mean_feature.ndim != 1 or projector.shape != (mean_feature.shape[0],) * 2:
        raise ValueError(
            "projector must be (D, D) and mean_feature (D,), got "
            f"{tuple(projector.shape)} and {tuple(mean_feature.shape)}"
        )
    if not alpha > 0:
        raise ValueError(f"alpha must be > 0, got {alpha}")
