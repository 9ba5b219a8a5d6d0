"""Effect of a modality's step on the others: losses, gradient angles, state of the projector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

from mla_lightning.functional import at_least_single


def accuracy_of(logits: Tensor, label: Tensor) -> float:
    """Return the accuracy of logits (B, C).

    Example:
        >>> accuracy_of(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1]))
        0.5
    """
    return float((logits.argmax(dim=1) == label).float().mean())


def losses_and_scores(
    logits: Mapping[str, Tensor],
    label: Tensor,
    present: Mapping[str, Tensor],
    loss_of: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    score_of: Callable[[Tensor, Tensor], float] = accuracy_of,
) -> dict[str, tuple[float, float]]:
    """Compute loss and score of each modality's own logits, over the samples that have it.

    Args:
        logits: Modality and ``multi`` -> logits (B, C).
        label: Labels (B,).
        present: Modality -> (B,) bool.
        loss_of: Logits and labels -> mean loss; cross-entropy by default.
        score_of: Logits and labels -> score; accuracy by default.

    Returns:
        Modality -> loss and score; modalities that no sample has are omitted.

    Example:
        >>> logits = {"audio": torch.tensor([[9.0, 0.0], [9.0, 0.0]])}
        >>> present = {"audio": torch.tensor([True, False])}
        >>> losses_and_scores(logits, torch.tensor([0, 1]), present)
        {'audio': (0.0001..., 1.0)}
    """
    scores = {}
    for name, has in present.items():
        if bool(has.any()):
            z, y = at_least_single(logits[name][has]), label[has]
            scores[name] = (float(loss_of(z, y)), score_of(z, y))
    return scores


def gradient_cosines(gradients: Mapping[str, Tensor]) -> dict[tuple[str, str], float]:
    r"""Compute the cosine of every two gradients of the same parameters: :math:`\cos(g_a, g_b)`.

    If it is negative, a step that decreases one loss increases the other, to first order (Yu et
    al., NeurIPS 2020).

    Args:
        gradients: Modality -> gradient, all of one shape.

    Returns:
        Pair of modalities -> cosine, 0 if a gradient is zero.

    Example:
        >>> gradients = {"audio": torch.tensor([1.0, 0.0]), "visual": torch.tensor([-2.0, 0.0])}
        >>> gradient_cosines(gradients)
        {('audio', 'visual'): -1.0}
    """
    return {
        (a, b): float(cosine_similarity(gradients[a].flatten(), gradients[b].flatten(), dim=0))
        for a, b in combinations(gradients, 2)
    }


def projector_state(projector: Tensor) -> dict[str, float]:
    r"""Compute how much of the head's gradient a projector keeps.

    The projector of orthogonal weight modification (OWM, Zeng et al., Nature Machine Intelligence
    2019), which MLA's recursion follows, shrinks the directions of past features x:

    .. math:: P \leftarrow P - \frac{P x x^T P}{\alpha + x^T P x}, \quad P_0 = I.

    Its eigenvalues lie in [0, 1] and never grow. Their mean is the expected fraction of a random
    gradient that is kept; the smallest is that of the best protected direction.

    Args:
        projector: Projector (D, D).

    Returns:
        ``trace``: :math:`\mathrm{tr} P / D`, 1 for the identity and 0 for a frozen head;
        ``smallest`` and ``median``: eigenvalues of its symmetric part.

    Example:
        >>> projector_state(torch.diag(torch.tensor([0.25, 1.0, 1.0])))
        {'trace': 0.75, 'smallest': 0.25, 'median': 1.0}
    """
    values = torch.linalg.eigvalsh((projector.double() + projector.double().T).cpu() / 2)
    return {
        "trace": float(values.mean()),
        "smallest": float(values[0]),
        "median": float(values.quantile(0.5)),
    }
