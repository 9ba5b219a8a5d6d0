r"""Alternatives to the recursion: what else could keep a shared head from forgetting.

Notation as in :mod:`~mla_lightning.functional.projection`: ``G_CD`` gradient of the head's weight,
``P_DD`` projector, ``H_BD`` a batch's features. None of these is in a paper on MLA; the first three
replace its ever-growing memory by one that forgets, the others need no projector.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def mean_moment(features: Tensor, label: Tensor, num_classes: int) -> Tensor:
    r"""Compute :math:`\bar h \bar h^\top` of a batch, what the recursion remembers of it.

    Args:
        features: H, shape (B, D).
        label: (B,); not used.
        num_classes: Number of classes; not used.

    Returns:
        (D, D).
    """
    del label, num_classes
    mean_D = features.mean(dim=0)
    return torch.outer(mean_D, mean_D)


def second_moment(features: Tensor, label: Tensor, num_classes: int) -> Tensor:
    r"""Compute :math:`H^\top H / B`: all directions that a batch uses, by how much it uses them.

    Args:
        features: H, shape (B, D).
        label: (B,); not used.
        num_classes: Number of classes; not used.

    Returns:
        (D, D).
    """
    del label, num_classes
    return features.T @ features / len(features)


def class_moment(features: Tensor, label: Tensor, num_classes: int) -> Tensor:
    r"""Compute the mean of :math:`\mu_c \mu_c^\top` over the classes of a batch.

    The directions of the class means are those that the head tells classes apart by.

    Args:
        features: H, shape (B, D).
        label: (B,).
        num_classes: Number of classes C.

    Returns:
        (D, D).
    """
    member_BC = one_hot(label, num_classes).to(features.dtype)
    counts_C = member_BC.sum(dim=0)
    mean_CD = member_BC.T @ features / counts_C.clamp(min=1)[:, None]
    return mean_CD.T @ mean_CD / (counts_C > 0).sum()


def moment_projector(moment: Tensor, alpha: float) -> Tensor:
    r"""Shrink directions by how much energy they hold.

    .. math:: P = a (R + a I)^{-1}, \quad a = \alpha \, \mathrm{tr}(R) / D

    The closed form of the recursion for a moment R in place of the sum of all past ones; ``alpha``
    counts in units of R's mean eigenvalue, so features of any size are treated alike.

    Args:
        moment: R, symmetric and positive semi-definite, shape (D, D).
        alpha: Ridge term, > 0. Smaller protects more.

    Returns:
        P, shape (D, D), eigenvalues in (0, 1]; the identity while nothing is remembered.

    Raises:
        ValueError: If ``alpha`` is not positive.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be > 0, got {alpha}")
    identity = torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    ridge = alpha * moment.trace() / len(moment)
    if float(ridge) <= 0:
        return identity
    return ridge * torch.linalg.inv(moment + ridge * identity)


def without_conflict(gradient: Tensor, others: Iterable[Tensor]) -> Tensor:
    r"""Take away what points against other modalities' last gradients, one after another.

    .. math:: G \leftarrow G - \min(0, \langle G, G_o \rangle) / \|G_o\|^2 \; G_o

    PCGrad (Yu et al., NeurIPS 2020), in alternation: the others' gradients are those of their last
    steps.

    Args:
        gradient: G, any shape.
        others: The gradients G_o; those that are zero change nothing.

    Returns:
        The gradient without conflict.
    """
    for other in others:
        dot, energy = (gradient * other).sum(), (other * other).sum()
        gradient = gradient - dot.clamp(max=0) / energy.clamp(min=1e-30) * other
    return gradient


def centred_gradient(gradient: Tensor, bias_gradient: Tensor, mean_feature: Tensor) -> Tensor:
    r"""Take the mean feature out of the weight's gradient: :math:`G - g \bar h^\top`.

    What all samples of a batch share is learnt by the bias alone. Equal to the gradient of a head
    that sees features less their mean.

    Args:
        gradient: G, shape (C, D).
        bias_gradient: g, the bias's gradient, shape (C,).
        mean_feature: Mean of the batch's features, shape (D,).

    Returns:
        The gradient, shape (C, D).
    """
    return gradient - torch.outer(bias_gradient, mean_feature)
