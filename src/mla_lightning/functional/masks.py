"""Random masks of missing modalities, with rates known in closed form.

A mask holds for each sample and each modality whether it is present; a cell is one such pair. The
missing rate is the fraction of missing cells. Every sample keeps at least one modality, so with M
modalities the largest missing rate is (M - 1) / M: what papers on three modalities call 70 % is
66.7 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def max_missing_rate(num_modalities: int) -> float:
    """Return the largest missing rate at which every sample still keeps one modality.

    Args:
        num_modalities: Number of modalities M.

    Returns:
        (M - 1) / M.

    Example:
        >>> max_missing_rate(2), round(max_missing_rate(3), 4)
        (0.5, 0.6667)
    """
    return (num_modalities - 1) / num_modalities


def anchor_mask(
    num_samples: int,
    num_modalities: int,
    missing_rate: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Draw a mask that keeps one random modality of each sample, and each other one at random.

    The kept modality is uniform. Each other cell is present with probability

    .. math:: q = \mathrm{clip}\!\left(\frac{M (1 - r) - 1}{M - 1}, 0, 1\right)

    The expected missing rate is exactly r, up to the largest possible one. The distribution is that
    of CPM-Nets' sampler (Zhang et al. 2019), whose public code draws whole masks until the rate is
    near enough; here one draw is enough.

    Args:
        num_samples: Number of samples N.
        num_modalities: Number of modalities M, at least 2.
        missing_rate: Fraction of missing cells r, in [0, 1]; values above (M - 1) / M give
            (M - 1) / M.
        generator: Source of random numbers; torch's global one by default.

    Returns:
        Mask of shape (N, M), bool, true where a modality is present; no row is empty.

    Raises:
        ValueError: If the rate is outside [0, 1] or there are fewer than two modalities.

    Example:
        >>> import torch
        >>> mask = anchor_mask(10_000, 3, 0.4, torch.Generator().manual_seed(0))
        >>> mask.shape, mask.any(dim=1).all().item(), round(missing_rate(mask), 2)
        (torch.Size([10000, 3]), True, 0.4)
        >>> mask = anchor_mask(10_000, 3, 0.9)  # above 2/3: one modality per sample
        >>> mask.sum(dim=1).unique().tolist()
        [1]
    """
    import torch

    _check(num_modalities, missing_rate)
    anchor_N = torch.randint(num_modalities, (num_samples,), generator=generator)
    keep_probability = (num_modalities * (1 - missing_rate) - 1) / (num_modalities - 1)
    uniform_NM = torch.rand(num_samples, num_modalities, generator=generator)
    mask_NM = uniform_NM < min(max(keep_probability, 0), 1)
    return mask_NM.scatter_(1, anchor_N[:, None], True)


def resampled_mask(
    num_samples: int,
    num_modalities: int,
    drop_probability: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Draw a mask of independent cells, conditioned on no row being empty.

    The distribution is that of drawing empty rows again until they are not empty, without the loop:
    the first present modality is m with a probability proportional to :math:`p^m`, those before it
    are missing, those after it are independent. The expected missing rate is
    (p - p^M) / (1 - p^M), less than p: 54 % for p = 0.7 and three modalities. At the limit p = 1
    each row keeps one modality, drawn uniformly.

    Args:
        num_samples: Number of samples N.
        num_modalities: Number of modalities M, at least 2.
        drop_probability: Probability p that a cell is dropped, in [0, 1]; see
            :func:`resampled_drop_probability` for the p of a wanted rate.
        generator: Source of random numbers; torch's global one by default.

    Returns:
        Mask of shape (N, M), bool, true where a modality is present; no row is empty.

    Raises:
        ValueError: If the probability is outside [0, 1] or there are fewer than two modalities.

    Example:
        >>> import torch
        >>> mask = resampled_mask(10_000, 3, 0.7, torch.Generator().manual_seed(0))
        >>> round(missing_rate(mask), 2), round((0.7 - 0.7**3) / (1 - 0.7**3), 2)
        (0.54, 0.54)
    """
    import torch

    _check(num_modalities, drop_probability)
    modality_M = torch.arange(num_modalities)
    weights_M = torch.tensor(drop_probability, dtype=torch.float64) ** modality_M  # 0 ** 0 is 1
    first_N = torch.multinomial(weights_M, num_samples, replacement=True, generator=generator)
    is_kept_NM = torch.rand(num_samples, num_modalities, generator=generator) >= drop_probability
    first_N1 = first_N[:, None]
    return (modality_M == first_N1) | (is_kept_NM & (modality_M > first_N1))


def restored_mask(
    num_samples: int,
    num_modalities: int,
    drop_probability: float | Sequence[float],
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Draw a mask of independent cells, and give rows that are empty one random modality back.

    The expected missing rate of modality m is :math:`p_m - \frac{1}{M} \prod_k p_k`.

    Args:
        num_samples: Number of samples N.
        num_modalities: Number of modalities M, at least 2.
        drop_probability: Probability p that a cell is dropped, in [0, 1]: one number, or one for
            each modality; see :func:`restored_drop_probabilities` for those of wanted rates.
        generator: Source of random numbers; torch's global one by default.

    Returns:
        Mask of shape (N, M), bool, true where a modality is present; no row is empty.

    Raises:
        ValueError: If a probability is outside [0, 1] or there are fewer than two modalities.

    Example:
        The first modality is never missing; the second is, at a rate of 0.8 - 0 / 2:

        >>> import torch
        >>> mask = restored_mask(10_000, 2, [0.0, 0.8], torch.Generator().manual_seed(0))
        >>> [round(missing_rate(column), 2) for column in mask.T]
        [0.0, 0.8]
    """
    import torch

    if isinstance(drop_probability, Sequence):
        probabilities = list(drop_probability)
    else:
        probabilities = [drop_probability] * num_modalities
    for probability in probabilities:
        _check(num_modalities, probability)
    p_M = torch.tensor(probabilities, dtype=torch.float64)
    mask_NM = torch.rand(num_samples, num_modalities, generator=generator) >= p_M
    restored_N = torch.randint(num_modalities, (num_samples,), generator=generator)
    is_empty_N = ~mask_NM.any(dim=1)
    mask_NM[is_empty_N, restored_N[is_empty_N]] = True
    return mask_NM


def resampled_drop_probability(rate: float, num_modalities: int) -> float:
    """Compute the drop probability with which :func:`resampled_mask` has a wanted missing rate.

    The equation (p - p^M) / (1 - p^M) = r is solved by bisection.

    Args:
        rate: Wanted missing rate r, in [0, (M - 1) / M].
        num_modalities: Number of modalities M.

    Returns:
        The probability p; 1 at the largest rate.

    Example:
        For two modalities the rate is p / (1 + p):

        >>> round(resampled_drop_probability(0.2, 2), 6), round(0.25 / (1 + 0.25), 6)
        (0.25, 0.2)
    """
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        all_missing = middle**num_modalities
        is_too_small = (middle - all_missing) / (1 - all_missing) < rate
        low, high = (middle, high) if is_too_small else (low, middle)
    return high


def restored_drop_probabilities(rates: Sequence[float]) -> list[float]:
    r"""Compute the drop probabilities with which :func:`restored_mask` has wanted missing rates.

    .. math:: p_m = \min\!\left(r_m + \frac{1}{M} \prod_k p_k, \; 1\right)

    The equations are iterated from p = r, which grows to the smallest solution.

    Args:
        rates: Wanted missing rate r of each of the M modalities, in [0, 1].

    Returns:
        Drop probability p of each modality. Rates that cannot be reached, since every sample keeps
        one modality, become the largest that can, p - prod(p) / M.

    Example:
        A modality that is never missing needs no correction. Otherwise rows that were empty get a
        modality back, so p is larger than r:

        >>> restored_drop_probabilities([0.5, 0.0])
        [0.5, 0.0]
        >>> p, _ = restored_drop_probabilities([0.375, 0.375])
        >>> round(p, 6), round(p - p * p / 2, 6)
        (0.5, 0.375)
    """
    probabilities = list(rates)
    for _ in range(10_000):
        restored = math.prod(probabilities) / len(probabilities)
        updated = [min(rate + restored, 1.0) for rate in rates]
        if max(a - b for a, b in zip(updated, probabilities, strict=True)) < 1e-12:
            break
        probabilities = updated
    return probabilities


def dropout_mask(uniform_NM: Tensor, present_NM: Tensor, drop_probability: float) -> Tensor:
    r"""Drop present modalities at random, but never all of a sample (modality dropout).

    A modality is dropped if its uniform number is below p, except for the one with the largest
    number of the sample's present ones. So a sample whose modalities would all be dropped keeps
    one of them, drawn uniformly. A modality of a sample with M of them is dropped with probability
    :math:`p - p^M / M`.

    Args:
        uniform_NM: Random numbers, uniform in [0, 1), shape (N, M).
        present_NM: Bool, true where a modality is present, shape (N, M).
        drop_probability: Probability p that a modality is dropped, in [0, 1].

    Returns:
        Mask of shape (N, M), bool, true where a modality is kept; a row is empty only if no
        modality was present.

    Raises:
        ValueError: If the probability is outside [0, 1].

    Example:
        >>> import torch
        >>> uniform = torch.tensor([[0.1, 0.9], [0.3, 0.2], [0.3, 0.2]])
        >>> present = torch.tensor([[True, True], [True, True], [False, True]])
        >>> dropout_mask(uniform, present, 0.5)
        tensor([[False,  True],
                [ True, False],
                [False,  True]])
    """
    if not 0 <= drop_probability <= 1:
        raise ValueError(f"a drop probability must be in [0, 1], got {drop_probability}")
    largest_N1 = uniform_NM.masked_fill(~present_NM, -1.0).amax(dim=1, keepdim=True)
    return present_NM & ((uniform_NM >= drop_probability) | (uniform_NM == largest_N1))


def missing_rate(mask: Tensor) -> float:
    """Return the missing rate of a mask.

    Args:
        mask: Bool, true where a modality is present, shape (N, M).

    Returns:
        Fraction of missing cells, in [0, 1].

    Example:
        >>> import torch
        >>> missing_rate(torch.tensor([[True, False], [True, True]]))
        0.25
    """
    return 1.0 - mask.double().mean().item()


def _check(num_modalities: int, rate: float) -> None:
    if num_modalities < 2:
        raise ValueError(f"masks need at least 2 modalities, got {num_modalities}")
    if not 0 <= rate <= 1:
        raise ValueError(f"a missing rate or drop probability must be in [0, 1], got {rate}")
