r"""Projection of the shared head's gradient: projectors, and how a batch updates them.

A projector shrinks the directions of features that earlier steps were trained on, so that a step on
one modality changes little of what the head computes for the others.

Notation: ``P_DD`` projector, ``r_D`` mean feature of a batch, ``G_CD`` gradient of the head's
weight. Source: MLA (CVPR 2024), gradient modification; the recursion is that of OWM (Zeng et al.,
Nature Machine Intelligence 2019).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def update_projector(projector: Tensor, mean_feature: Tensor, alpha: float) -> Tensor:
    r"""Compute the projector shrunk along a batch's mean feature (rank-one recursion).

    .. math:: P' = P - \frac{(P r)(P r)^\top}{\alpha + r^\top P r}

    Started from the identity and with constant ``alpha`` this is
    :math:`(I + \frac1\alpha \sum_i r_i r_i^\top)^{-1}` (Sherman-Morrison): symmetric, eigenvalues
    in (0, 1], ``alpha / (alpha + s)`` along a direction of energy ``s``.

    Args:
        projector: P, symmetric, shape (D, D); left untouched.
        mean_feature: r, shape (D,).
        alpha: Ridge term, > 0. A smaller one protects earlier features more.

    Returns:
        P', shape (D, D).

    Raises:
        ValueError: If shapes do not fit or ``alpha`` is not positive.

    Example:
        The direction of the mean feature is shrunk to alpha / (alpha + 1), the other one stays:

        >>> P = update_projector(torch.eye(2), torch.tensor([1.0, 0.0]), alpha=1.0)
        >>> P
        tensor([[0.5000, 0.0000],
                [0.0000, 1.0000]])

        A gradient multiplied by the projector moves the logits of that feature half as much:

        >>> project_gradient(torch.tensor([[2.0, 2.0]]), P)
        tensor([[1., 2.]])
    """
    return update_projector_(projector.clone(), mean_feature, alpha)


def update_projector_(projector: Tensor, mean_feature: Tensor, alpha: float) -> Tensor:
    """Apply :func:`update_projector` in place.

    The cost is one matrix-vector product and one rank-one update; a new matrix for each term would
    cost ten times as much. The update adds the same number to both halves of the matrix, so it
    stays exactly symmetric.

    Args:
        projector: P, changed in place, shape (D, D).
        mean_feature: r, shape (D,).
        alpha: Ridge term, > 0.

    Returns:
        ``projector``.

    Raises:
        ValueError: If shapes do not fit or ``alpha`` is not positive.

    Example:
        >>> P = torch.eye(2)
        >>> update_projector_(P, torch.tensor([1.0, 0.0]), alpha=1.0) is P
        True
        >>> P.diagonal()
        tensor([0.5000, 1.0000])
    """
    _check(projector, mean_feature, alpha)
    k_D = projector @ mean_feature
    # Scaled before the outer product: k k^T / den from one vector is symmetric to the last bit.
    k_D /= torch.sqrt(alpha + mean_feature @ k_D)
    return projector.addr_(k_D, k_D, alpha=-1)


def update_projector_frobenius_(projector: Tensor, mean_feature: Tensor, alpha: float) -> Tensor:
    """Update the projector in place and divide it by its Frobenius norm, as the released code does.

    The direction of the projected gradient hardly changes, but its length shrinks to about
    ``1 / sqrt(D)``.

    Args:
        projector: P, changed in place, shape (D, D).
        mean_feature: r, shape (D,).
        alpha: Ridge term, > 0.

    Returns:
        ``projector``, of Frobenius norm 1.

    Raises:
        ValueError: If shapes do not fit or ``alpha`` is not positive.

    Example:
        Here the plain update is diag(0.75, 1, 0), of norm 1.25:

        >>> P = torch.diag(torch.tensor([1.0, 1.0, 0.0]))
        >>> update_projector_frobenius_(P, torch.tensor([1.0, 0.0, 0.0]), alpha=3.0).diagonal()
        tensor([0.6000, 0.8000, 0.0000])
    """
    update_projector_(projector, mean_feature, alpha)
    return projector.div_(projector.norm())


def update_projector_unit_(projector: Tensor, mean_feature: Tensor, alpha: float) -> Tensor:
    """Update the projector in place and scale it to the Frobenius norm of the identity.

    This keeps the average step size of the head, which dwindles under the plain recursion:
    directions that are not used yet grow as others shrink.

    Args:
        projector: P, changed in place, shape (D, D).
        mean_feature: r, shape (D,).
        alpha: Ridge term, > 0.

    Returns:
        ``projector``, of Frobenius norm sqrt(D).

    Raises:
        ValueError: If shapes do not fit or ``alpha`` is not positive.

    Example:
        >>> P = torch.eye(4)
        >>> update_projector_unit_(P, torch.tensor([1.0, 0.0, 0.0, 0.0]), alpha=1.0).norm().item()
        2.0
        >>> P.diagonal()
        tensor([0.5547, 1.1094, 1.1094, 1.1094])
    """
    update_projector_(projector, mean_feature, alpha)
    return projector.mul_(math.sqrt(projector.shape[0]) / projector.norm())


def update_projector_released_(projector: Tensor, mean_feature: Tensor, alpha: float) -> Tensor:
    """Update the projector in place by the formula that is written in the released code.

    The released code never reaches this formula. It divides element by element, by
    ``alpha + k_i r_j`` where the recursion has the scalar ``alpha + r^T k``, and then by the
    Frobenius norm. The result is not symmetric, and its eigenvalues are not those of a projector:
    for features of small norm it ends up keeping the mean feature, the direction that it should
    remove.

    Args:
        projector: P, changed in place, shape (D, D).
        mean_feature: r, shape (D,).
        alpha: Ridge term, > 0.

    Returns:
        ``projector``, of Frobenius norm 1.

    Raises:
        ValueError: If shapes do not fit or ``alpha`` is not positive.

    Example:
        Where the mean feature has one entry, the two formulas agree up to the scale. Where it has
        more, this one is off:

        >>> r = torch.tensor([1.0, 1.0])
        >>> P = update_projector_released_(torch.eye(2), r, alpha=1.0)
        >>> P / P[0, 0]  # before the norm: 1 - 1/2 and 0 - 1/2
        tensor([[ 1., -1.],
                [-1.,  1.]])
        >>> update_projector(torch.eye(2), r, alpha=1.0)
        tensor([[ 0.6667, -0.3333],
                [-0.3333,  0.6667]])
    """
    _check(projector, mean_feature, alpha)
    k_D = projector @ mean_feature
    projector.sub_(torch.outer(k_D, k_D) / (alpha + torch.outer(k_D, mean_feature)))
    return projector.div_(projector.norm())


def projector_from_means(mean_features: Tensor, alpha: float | Tensor) -> Tensor:
    r"""Compute the projector of all mean features at once, in closed form.

    .. math:: P = I - A (A^\top A + \mathrm{diag}(\alpha))^{-1} A^\top

    This equals :func:`update_projector` applied to one mean feature after another.

    Args:
        mean_features: The columns of A as rows, shape (T, D).
        alpha: One ridge term, or one per mean feature, shape (T,).

    Returns:
        P, shape (D, D).

    Example:
        >>> means = torch.tensor([[1.0, 0.0], [1.0, 2.0]])
        >>> P = torch.eye(2)
        >>> for mean in means:
        ...     P = update_projector(P, mean, alpha=0.1)
        >>> torch.allclose(projector_from_means(means, alpha=0.1), P, atol=1e-6)
        True
    """
    a_DT = mean_features.T
    ridge = torch.diag(torch.as_tensor(alpha, dtype=a_DT.dtype).expand(a_DT.shape[1]))
    identity = torch.eye(a_DT.shape[0], dtype=a_DT.dtype)
    return identity - a_DT @ torch.linalg.solve(a_DT.T @ a_DT + ridge, a_DT.T)


def project_gradient(gradient: Tensor, projector: Tensor) -> Tensor:
    r"""Multiply the head's gradient by the projector on its input side: :math:`G P^\top`.

    Args:
        gradient: G, shape (C, D).
        projector: P, shape (D, D).

    Returns:
        The projected gradient, shape (C, D), in the gradient's precision.

    Raises:
        ValueError: If shapes do not fit.

    Example:
        A projector that removes the first feature keeps every class's gradient out of it:

        >>> P = torch.diag(torch.tensor([0.0, 1.0]))
        >>> project_gradient(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), P)
        tensor([[0., 2.],
                [0., 4.],
                [0., 6.]])
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
        The gradient that the toolkit's optimiser sees, shape (C, D).

    Raises:
        ValueError: If shapes do not fit.

    Example:
        Nothing is removed; what the projector keeps is doubled:

        >>> P = torch.diag(torch.tensor([0.0, 1.0]))
        >>> balancemm_gradient(torch.tensor([[1.0, 2.0]]), P)
        tensor([[1., 4.]])
    """
    return gradient + project_gradient(gradient, projector)


def released_alpha(batch: int, num_batches: int) -> float:
    """Compute the ridge term of the released code: from 0.1 down to almost 0.01 in each epoch.

    Args:
        batch: Number of the batch in its epoch, from 0.
        num_batches: Batches per epoch, >= 1.

    Returns:
        ``0.1 ** (batch / num_batches + 1)``.

    Example:
        >>> [round(released_alpha(batch, 100), 4) for batch in (0, 50, 99)]
        [0.1, 0.0316, 0.0102]
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
