r"""Alternatives to the recursive projector, which also keep a shared head from forgetting.

Notation as in :mod:`~mla_lightning.functional.projection`: ``G_CD`` gradient of the head's weight,
``P_DD`` projector, ``H_BD`` features of a batch. None of these is in a paper on MLA. The moments
and their projector replace the growing sum of the recursion by an average that forgets; the other
functions need no projector.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def mean_moment(features: Tensor, label: Tensor, num_classes: int) -> Tensor:
    r"""Compute :math:`\bar h \bar h^\top` of a batch, the term that the recursion adds for it.

    Args:
        features: H, shape (B, D).
        label: Not used; all moments take the same arguments.
        num_classes: Not used.

    Returns:
        The moment, shape (D, D).

    Example:
        Features that cancel in the mean leave no trace:

        >>> features = torch.tensor([[3.0, 1.0], [1.0, -1.0]])
        >>> mean_moment(features, label=torch.tensor([0, 1]), num_classes=2)
        tensor([[4., 0.],
                [0., 0.]])
    """
    del label, num_classes
    mean_D = features.mean(dim=0)
    return torch.outer(mean_D, mean_D)


def second_moment(features: Tensor, label: Tensor, num_classes: int) -> Tensor:
    r"""Compute the second moment :math:`H^\top H / B` of a batch.

    It holds all directions that the features of the batch have, weighted by their energy.

    Args:
        features: H, shape (B, D).
        label: Not used; all moments take the same arguments.
        num_classes: Not used.

    Returns:
        The moment, shape (D, D).

    Example:
        >>> features = torch.tensor([[3.0, 1.0], [1.0, -1.0]])
        >>> second_moment(features, label=torch.tensor([0, 1]), num_classes=2)
        tensor([[5., 1.],
                [1., 1.]])
    """
    del label, num_classes
    return features.T @ features / len(features)


def class_moment(features: Tensor, label: Tensor, num_classes: int) -> Tensor:
    r"""Compute the mean of :math:`\mu_c \mu_c^\top` over the classes of a batch.

    The directions of the class means :math:`\mu_c` are those by which the head separates classes.

    Args:
        features: H, shape (B, D).
        label: True classes, shape (B,).
        num_classes: Number of classes C.

    Returns:
        The moment, shape (D, D); classes that are not in the batch do not count.

    Example:
        The class means are (2, 0) and (0, 3); the third class has no sample:

        >>> features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
        >>> class_moment(features, label=torch.tensor([0, 0, 1]), num_classes=3)
        tensor([[2.0000, 0.0000],
                [0.0000, 4.5000]])
    """
    is_member_BC = one_hot(label, num_classes).to(features.dtype)
    counts_C = is_member_BC.sum(dim=0)
    mean_CD = is_member_BC.T @ features / counts_C.clamp(min=1)[:, None]
    return mean_CD.T @ mean_CD / (counts_C > 0).sum()


def moment_projector(moment: Tensor, alpha: float) -> Tensor:
    r"""Compute the projector that shrinks directions by their energy in a moment.

    .. math:: P = a (R + a I)^{-1}, \quad a = \alpha \, \mathrm{tr}(R) / D

    This is the closed form of the recursion with a moment R in place of the sum over all past
    batches. ``alpha`` is in units of R's mean eigenvalue, so the scale of the features has no
    effect.

    Args:
        moment: R, symmetric and positive semi-definite, shape (D, D).
        alpha: Ridge term, > 0. A smaller one protects more.

    Returns:
        P, shape (D, D), eigenvalues in (0, 1]; the identity if R is zero.

    Raises:
        ValueError: If ``alpha`` is not positive.

    Example:
        The mean eigenvalue is 2 and alpha 1, so an eigenvalue s becomes 2 / (s + 2):

        >>> moment = torch.diag(torch.tensor([6.0, 0.0, 0.0]))
        >>> moment_projector(moment, alpha=1.0).diagonal()
        tensor([0.2500, 1.0000, 1.0000])
        >>> moment_projector(100 * moment, alpha=1.0).diagonal()
        tensor([0.2500, 1.0000, 1.0000])
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be > 0, got {alpha}")
    identity = torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    ridge = alpha * moment.trace() / len(moment)
    if float(ridge) <= 0:
        return identity
    return ridge * torch.linalg.inv(moment + ridge * identity)


def remove_conflict(gradient: Tensor, others: Iterable[Tensor]) -> Tensor:
    r"""Remove from a gradient the components that point against other gradients.

    .. math:: G \leftarrow G - \min(0, \langle G, G_o \rangle) / \|G_o\|^2 \; G_o

    for one other gradient after another. This is PCGrad (Yu et al., NeurIPS 2020) under alternating
    steps: the other gradients are those of the last steps of the other modalities.

    Args:
        gradient: G, any shape.
        others: The gradients G_o, of the same shape; those that are zero change nothing.

    Returns:
        The gradient without conflict, of the same shape.

    Example:
        >>> gradient = torch.tensor([-1.0, 1.0])
        >>> remove_conflict(gradient, [torch.tensor([2.0, 0.0])])  # against: removed
        tensor([0., 1.])
        >>> remove_conflict(gradient, [torch.tensor([0.0, 2.0])])  # along: unchanged
        tensor([-1.,  1.])
    """
    for other in others:
        dot, energy = (gradient * other).sum(), (other * other).sum()
        gradient = gradient - dot.clamp(max=0) / energy.clamp(min=1e-30) * other
    return gradient


def centred_gradient(gradient: Tensor, bias_gradient: Tensor, mean_feature: Tensor) -> Tensor:
    r"""Remove the mean feature from the gradient of the head's weight: :math:`G - g \bar h^\top`.

    The result is the gradient of a head whose features are centred, so that only the bias learns
    what all samples of a batch share.

    Args:
        gradient: G, shape (C, D).
        bias_gradient: Gradient g of the head's bias, shape (C,).
        mean_feature: Mean feature of the batch, shape (D,).

    Returns:
        The gradient, shape (C, D).

    Example:
        Two samples with logit gradients g_1 = 1 and g_2 = 3, so that G is the sum of g_n h_n:

        >>> g, h = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0, 0.0], [4.0, 0.0]])
        >>> centred = centred_gradient(g.T @ h, g.sum(dim=0), h.mean(dim=0))
        >>> centred, g.T @ (h - h.mean(dim=0))
        (tensor([[2., 0.]]), tensor([[2., 0.]]))
    """
    return gradient - torch.outer(bias_gradient, mean_feature)
