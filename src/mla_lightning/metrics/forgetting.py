"""What a step on one modality does to the others: changes, gradient angles, the projector."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy


def losses_and_accuracies(
    logits: Mapping[str, Tensor], label: Tensor, present: Mapping[str, Tensor]
) -> dict[str, tuple[float, float]]:
    """Score each modality's own logits on a batch, over the samples that have it.

    Args:
        logits: Modality and ``multi`` -> (B, C).
        label: (B,).
        present: Modality -> (B,) bool.

    Returns:
        Modality -> cross-entropy and share of right answers; modalities that no sample has are
        left out.
    """
    found = {}
    for name, has in present.items():
        if bool(has.any()):
            z, y = logits[name][has].float(), label[has]
            right = (z.argmax(dim=1) == y).float().mean()
            found[name] = (float(cross_entropy(z, y)), float(right))
    return found


def gradient_cosines(gradients: Mapping[str, Tensor]) -> dict[tuple[str, str], float]:
    r"""Compare gradients of the same parameters: :math:`\cos(g_a, g_b)`.

    Negative: a step that helps one hurts the other, to first order (Yu et al., NeurIPS 2020).

    Args:
        gradients: Modality -> gradient, all of one shape.

    Returns:
        Pair of modalities -> cosine, 0 where a gradient is zero.
    """
    return {
        (a, b): float(cosine_similarity(gradients[a].flatten(), gradients[b].flatten(), dim=0))
        for a, b in combinations(gradients, 2)
    }


def projector_state(projector: Tensor) -> dict[str, float]:
    r"""Tell how much of the head's gradient a projector lets through.

    The projector of orthogonal weight modification (OWM, Zeng et al., Nature Machine Intelligence
    2019), which MLA's recursion follows, shrinks the directions of past features x:

    .. math:: P \leftarrow P - \frac{P x x^T P}{\alpha + x^T P x}, \quad P_0 = I.

    Its eigenvalues lie in [0, 1] and never grow, so their mean tells how much of a random gradient
    is left, and the smallest how well the best remembered direction is protected.

    Args:
        projector: (D, D).

    Returns:
        ``trace``: :math:`\mathrm{tr} P / D`, 1 for the identity and 0 for a frozen head;
        ``smallest`` and ``median``: eigenvalues of its symmetric part.
    """
    values = torch.linalg.eigvalsh((projector.double() + projector.double().T).cpu() / 2)
    return {
        "trace": float(values.mean()),
        "smallest": float(values[0]),
        "median": float(values.quantile(0.5)),
    }
