"""Boosting over classifiers: losses on what earlier ones get wrong, and who gets the next one.

Sources: ReconBoost (ICML 2024), boosting loss; AUG (NeurIPS 2025), residual loss and assignment.
"""

from __future__ import annotations

from torch import Tensor

from mla_lightning.functional.precision import at_least_single


def residual_cross_entropy(
    logits: Tensor, earlier: Tensor, label: Tensor, *, weight: float = 1.0, discount: float
) -> Tensor:
    r"""Compute the cross-entropy of a classifier whose target is what earlier ones left over.

    .. math:: \frac{1}{B} \sum_i (w - \lambda o_{i, y_i}) (-\log p_{i, y_i}), \quad
              p = \mathrm{softmax}(z), \quad o = \mathrm{softmax}(z')

    The prediction o of the earlier classifiers is a constant: no gradient reaches z'.

    Args:
        logits: Logits z of the classifier that is trained (B, C).
        earlier: Logits z' of the earlier classifiers together (B, C).
        label: True classes (B,).
        weight: w, the weight of the label.
        discount: :math:`\lambda`, how much of the earlier prediction is taken from it.

    Returns:
        The mean over the samples, 0 without samples.

    Example:
        The earlier classifiers are undecided in the first sample and certain of the second:

        >>> import torch
        >>> earlier = torch.tensor([[0.0, 0.0], [100.0, 0.0]])
        >>> residual_cross_entropy(torch.zeros(2, 2), earlier, torch.tensor([0, 0]), discount=1.0)
        tensor(0.1733)
    """
    logits, earlier = at_least_single(logits), at_least_single(earlier)
    log_p_B = logits.log_softmax(dim=-1).gather(-1, label[:, None])[:, 0]
    o_B = earlier.detach().softmax(dim=-1).gather(-1, label[:, None])[:, 0]
    return -((weight - discount * o_B) * log_p_B).sum() / max(len(label), 1)


def prediction_agreement(logits: Tensor, other: Tensor) -> Tensor:
    """Compute the mean squared difference of predictions to those of another classifier.

    No gradient reaches the other one.

    Args:
        logits: Logits of the classifier that is trained (B, C).
        other: Logits of the other (B, C).

    Returns:
        The mean over samples and classes, 0 without samples.

    Example:
        >>> import torch
        >>> prediction_agreement(torch.tensor([[0.0, 0.0]]), torch.tensor([[100.0, 0.0]]))
        tensor(0.2500)
    """
    p, target = (at_least_single(z).softmax(dim=-1) for z in (logits, other.detach()))
    difference = p - target
    return difference.square().sum() / max(difference.numel(), 1)


def modality_behind(
    scores: Tensor, *, rule: str = "difference", threshold: float = 0.01, sigma: float = 1.0
) -> int | None:
    r"""Find the modality that is so far behind the best one that it gets another classifier.

    ``difference``: the weakest modality v, if :math:`s_a - \sigma s_v` is above the threshold
    :math:`\tau` for the strongest one, a. ``ratio``: v, if their ratio is beyond
    :math:`1 \pm \tau`. As in the released code for two modalities, it is the ratio of the earlier
    one to the later: above :math:`1 + \tau` if the earlier one leads, below :math:`1 - \tau` if the
    later one does.

    Args:
        scores: Mean probability of the true class by each modality (M,), M >= 2.
        rule: ``difference`` or ``ratio``.
        threshold: :math:`\tau`, >= 0.
        sigma: :math:`\sigma`, of ``difference``.

    Returns:
        The position of the modality, None if none is so far behind.

    Raises:
        ValueError: If the rule is unknown or there are fewer than two scores.

    Example:
        >>> import torch
        >>> modality_behind(torch.tensor([0.5, 0.4]))
        1
        >>> modality_behind(torch.tensor([0.5, 0.495])) is None
        True
        >>> modality_behind(torch.tensor([30.0, 20.0, 25.0]), rule="ratio")
        1
    """
    if scores.ndim != 1 or len(scores) < 2:
        raise ValueError(f"scores must be (M,) with M >= 2, got {tuple(scores.shape)}")
    if rule not in ("difference", "ratio"):
        raise ValueError(f"rule must be difference or ratio, got {rule!r}")
    s = scores.tolist()
    best, weakest = s.index(max(s)), s.index(min(s))
    if rule == "difference":
        return weakest if s[best] - sigma * s[weakest] > threshold else None
    earlier, later = sorted((best, weakest))
    if earlier == best:
        return weakest if s[earlier] > (1 + threshold) * s[later] else None
    return weakest if s[earlier] < (1 - threshold) * s[later] else None
