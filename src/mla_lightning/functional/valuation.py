"""Valuation of modalities by sample: who contributed to a right answer, and who trains more.

Source: Enhancing Multimodal Cooperation via Sample-level Modality Valuation (CVPR 2024).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mla_lightning.functional.shapley import shapley_values

#: Shapley values are multiples of fractions such as 1/6, which are not exact in binary.
_ROUNDING = 1e-6


def contributions(is_right: Mapping[frozenset[int], Tensor]) -> Tensor:
    r"""Compute each modality's Shapley value of the number of modalities that a right answer uses.

    The value of a subset S of the modalities is ``|S|`` if the prediction from S alone is right,
    else 0; that of no modality is 0.

    Args:
        is_right: Non-empty subset of the positions 0 to M - 1 -> whether its prediction is right
            (B,) bool.

    Returns:
        Contributions :math:`\varphi` (M, B).

    Example:
        Only the first modality is right about the sample, alone and with the second one:

        >>> right, wrong = torch.tensor([True]), torch.tensor([False])
        >>> both = frozenset({0, 1})
        >>> contributions({frozenset({0}): right, frozenset({1}): wrong, both: right})
        tensor([[1.5000],
                [0.5000]])
    """
    values = {subset: right.float() * len(subset) for subset, right in is_right.items()}
    first = next(iter(values.values()))
    return shapley_values({frozenset(): torch.zeros_like(first), **values})


def copies_of(contribution: Tensor) -> Tensor:
    r"""Return how often a sample is repeated with a modality alone, by its contribution.

    0 times if :math:`\varphi \ge 1`, once above 0.4, twice above -0.1, else three times. The paper
    leaves open what happens at 0.4 and -0.1 themselves, which is impossible for fewer than five
    modalities; here they belong to the larger values.

    Args:
        contribution: Contributions, of any shape.

    Returns:
        Numbers of the same shape, uint8.

    Example:
        >>> copies_of(torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5]))
        tensor([3, 2, 1, 0, 0], dtype=torch.uint8)
    """
    thresholds = (1.0, 0.4, -0.1)
    below = [contribution < threshold - _ROUNDING for threshold in thresholds]
    return torch.stack(below).sum(dim=0).to(torch.uint8)


def repeated_shares(contribution: Tensor, alpha: float) -> Tensor:
    r"""Compute the share of the samples that are repeated with each modality alone.

    It is :math:`\frac{2}{3} \alpha (\max_j \varphi_j - \varphi_m)`, so 0 for the modality that
    contributes most. The paper has two modalities; that each other one is compared with the best is
    this package's generalisation.

    Args:
        contribution: Mean contribution of each modality (M,).
        alpha: Strength of the repetition.

    Returns:
        Shares (M,).

    Example:
        >>> repeated_shares(torch.tensor([0.9, 0.4]), alpha=0.5)
        tensor([0.0000, 0.1667])
    """
    return alpha * 2 / 3 * (contribution.max() - contribution)
