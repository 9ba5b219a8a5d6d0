"""Which (sample, modality) cells are missing: samplers of availability masks in closed form.

A missing rate is the share of missing cells. Every sample keeps at least one modality, so with M
modalities the largest rate is (M - 1) / M: what papers on three modalities call 70 % is 66.7 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def reachable_rate(num_modalities: int) -> float:
    """Tell the largest missing rate at which every sample still keeps one modality.

    Args:
        num_modalities: Number of modalities M.

    Returns:
        (M - 1) / M.
    """
    return (num_modalities - 1) / num_modalities


def anchor_mask(
    num_samples: int,
    num_modalities: int,
    missing_rate: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Keep one modality of each sample, drawn uniformly, and each other one at random.

    .. math:: q = \mathrm{clip}\!\left(\frac{M (1 - r) - 1}{M - 1}, 0, 1\right)

    is the chance of every other cell. The expected rate is r exactly, up to the reachable one. The
    law is that of CPM-Nets' sampler (Zhang et al. 2019), which public code draws again and again
    until the realised rate is near; this needs one draw.

    Args:
        num_samples: Number of samples N.
        num_modalities: Number of modalities M, at least 2.
        missing_rate: Share of missing cells r in [0, 1]; above (M - 1) / M it realises that.
        generator: Source of random numbers; torch's own by default.

    Returns:
        (N, M) bool, true where a modality is there; no row is empty.

    Raises:
        ValueError: If the rate is outside [0, 1] or there are fewer than two modalities.
    """
    _check(num_modalities, missing_rate)
    anchor_N = torch.randint(num_modalities, (num_samples,), generator=generator)
    keep = (num_modalities * (1 - missing_rate) - 1) / (num_modalities - 1)
    mask_NM = torch.rand(num_samples, num_modalities, generator=generator) < min(max(keep, 0), 1)
    return mask_NM.scatter_(1, anchor_N[:, None], True)


def resampled_mask(
    num_samples: int,
    num_modalities: int,
    drop_chance: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Drop every cell independently, given that no row is left empty.

    The law of drawing empty rows again, without the loop: the first modality that is there is m
    with a chance proportional to :math:`p^m`, those before it are missing, those after it are
    independent. The realised rate is (p - p^M) / (1 - p^M), less than p: with p = 0.7 and three
    modalities 54 %. At p = 1, the limit, each row keeps one modality, drawn uniformly.

    Args:
        num_samples: Number of samples N.
        num_modalities: Number of modalities M, at least 2.
        drop_chance: Chance p of a cell, in [0, 1].
        generator: Source of random numbers; torch's own by default.

    Returns:
        (N, M) bool, true where a modality is there; no row is empty.

    Raises:
        ValueError: If the chance is outside [0, 1] or there are fewer than two modalities.
    """
    _check(num_modalities, drop_chance)
    places_M = torch.arange(num_modalities)
    chances_M = torch.tensor(drop_chance, dtype=torch.float64) ** places_M  # 0 ** 0 is 1
    first_N = torch.multinomial(chances_M, num_samples, replacement=True, generator=generator)
    stays_NM = torch.rand(num_samples, num_modalities, generator=generator) >= drop_chance
    first_N1 = first_N[:, None]
    return (places_M == first_N1) | (stays_NM & (places_M > first_N1))


def restored_mask(
    num_samples: int,
    num_modalities: int,
    drop_chance: float | Sequence[float],
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Drop every cell independently; rows that are left empty get one modality back.

    The realised rate of modality m is :math:`p_m - \frac{1}{M} \prod_k p_k`.

    Args:
        num_samples: Number of samples N.
        num_modalities: Number of modalities M, at least 2.
        drop_chance: Chance p of a cell, in [0, 1], or one for each modality.
        generator: Source of random numbers; torch's own by default.

    Returns:
        (N, M) bool, true where a modality is there; no row is empty.

    Raises:
        ValueError: If the chance is outside [0, 1] or there are fewer than two modalities.
    """
    chances = drop_chance if isinstance(drop_chance, Sequence) else [drop_chance] * num_modalities
    for chance in chances:
        _check(num_modalities, chance)
    p_M = torch.tensor(chances, dtype=torch.float64)
    mask_NM = torch.rand(num_samples, num_modalities, generator=generator) >= p_M
    back_N = torch.randint(num_modalities, (num_samples,), generator=generator)
    empty_N = ~mask_NM.any(dim=1)
    mask_NM[empty_N, back_N[empty_N]] = True
    return mask_NM


def resample_chance(rate: float, num_modalities: int) -> float:
    """Find the chance with which :func:`resampled_mask` realises a rate, by bisection.

    Args:
        rate: Wanted share of missing cells, in [0, (M - 1) / M].
        num_modalities: Number of modalities M.

    Returns:
        The chance p, 1 at the largest rate.
    """
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        empty = middle**num_modalities
        low, high = (middle, high) if (middle - empty) / (1 - empty) < rate else (low, middle)
    return high


def drop_chances(rates: Sequence[float]) -> list[float]:
    r"""Find the chances with which :func:`restored_mask` realises a rate for each modality.

    .. math:: p_m = \min\!\left(r_m + \frac{1}{M} \prod_k p_k, \; 1\right)

    by iteration from p = r, which grows to the smallest solution.

    Args:
        rates: Wanted share r of missing cells of each of M modalities, in [0, 1].

    Returns:
        Chances p of the modalities. Where a rate cannot be reached, since every sample keeps one
        modality, they realise the most that can, p - prod(p) / M.
    """
    chances = list(rates)
    for _ in range(10_000):
        given_back = math.prod(chances) / len(chances)
        better = [min(rate + given_back, 1.0) for rate in rates]
        if max(abs(a - b) for a, b in zip(better, chances, strict=True)) < 1e-12:
            break
        chances = better
    return chances


def missing_rate_of(mask: Tensor) -> float:
    """Measure the realised missing rate.

    Args:
        mask: (N, M) bool, true where a modality is there.

    Returns:
        Share of missing cells.
    """
    return 1.0 - mask.double().mean().item()


def _check(num_modalities: int, rate: float) -> None:
    if num_modalities < 2:
        raise ValueError(f"masks need at least 2 modalities, got {num_modalities}")
    if not 0 <= rate <= 1:
        raise ValueError(f"a rate must be in [0, 1], got {rate}")
