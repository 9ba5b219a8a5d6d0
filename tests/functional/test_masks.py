"""Masks: missing rates and frequencies of patterns against their closed forms."""

import math

import pytest
import torch

from mla_lightning.functional import (
    anchor_mask,
    dropout_mask,
    max_missing_rate,
    missing_rate,
    resampled_drop_probability,
    resampled_mask,
    restored_drop_probabilities,
    restored_mask,
)

N = 200_000
#: Rate -> fractions of samples that keep 1, 2, 3 of three modalities.
PATTERNS = {
    0.1: (0.0225, 0.2550, 0.7225),
    0.2: (0.0900, 0.4200, 0.4900),
    0.3: (0.2025, 0.4950, 0.3025),
    0.4: (0.3600, 0.4800, 0.1600),
    0.5: (0.5625, 0.3750, 0.0625),
    0.6: (0.8100, 0.1800, 0.0100),
    0.7: (1.0, 0.0, 0.0),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rate", PATTERNS)
def test_rates_and_patterns_of_the_anchor_mask(rate):
    mask = anchor_mask(N, 3, rate, generator())
    assert mask.shape == (N, 3)
    assert mask.dtype == torch.bool
    num_present = mask.sum(dim=1)
    assert num_present.min() >= 1
    assert missing_rate(mask) == pytest.approx(min(rate, 2 / 3), abs=0.004)
    frequencies = [(num_present == number).double().mean().item() for number in (1, 2, 3)]
    assert frequencies == pytest.approx(PATTERNS[rate], abs=0.004)
    per_modality = mask.double().mean(dim=0).tolist()
    assert per_modality == pytest.approx([1 - min(rate, 2 / 3)] * 3, abs=0.004)
    assert len(mask.unique(dim=0)) == (3 if rate == 0.7 else 7)


@pytest.mark.parametrize(("num_modalities", "rate"), [(2, 0.3), (2, 0.5), (4, 0.6), (5, 0.2)])
def test_the_anchor_mask_takes_any_number_of_modalities(num_modalities, rate):
    mask = anchor_mask(N, num_modalities, rate, generator(1))
    assert missing_rate(mask) == pytest.approx(rate, abs=0.004)
    assert max_missing_rate(num_modalities) == (num_modalities - 1) / num_modalities


def test_the_lowest_and_highest_rates():
    assert anchor_mask(100, 3, 0.0).all()
    assert (anchor_mask(100, 3, 1.0).sum(dim=1) == 1).all()
    assert resampled_mask(100, 3, 0.0).all()
    assert (restored_mask(100, 3, 1.0).sum(dim=1) == 1).all()


@pytest.mark.parametrize(
    ("chance", "resampled", "restored"),
    [
        (0.1, 0.099099, 0.099667),
        (0.2, 0.193548, 0.197333),
        (0.3, 0.280576, 0.291000),
        (0.4, 0.358974, 0.378667),
        (0.5, 0.428571, 0.458333),
        (0.6, 0.489796, 0.528000),
        (0.7, 0.543379, 0.585667),
        (1, 2 / 3, 2 / 3),
    ],
)
def test_the_missing_rate_of_independent_cells_is_below_their_drop_probability(
    chance, resampled, restored
):
    for sampler, expected in ((resampled_mask, resampled), (restored_mask, restored)):
        mask = sampler(N, 3, chance, generator(2))
        assert mask.any(dim=1).all()
        assert missing_rate(mask) == pytest.approx(expected, abs=0.004)
        assert mask.double().mean(dim=0).tolist() == pytest.approx([1 - expected] * 3, abs=0.004)


@pytest.mark.parametrize("chance", [0.2, 0.5, 0.9])
def test_resampled_patterns_are_those_of_independent_cells_given_that_one_is_present(chance):
    mask = resampled_mask(N, 3, chance, generator(3))
    for pattern in mask.unique(dim=0):
        number = int(pattern.sum())
        expected = (1 - chance) ** number * chance ** (3 - number) / (1 - chance**3)
        frequency = (mask == pattern).all(dim=1).double().mean().item()
        assert frequency == pytest.approx(expected, abs=0.004)


@pytest.mark.parametrize(
    ("rate", "resampled", "restored"),
    [
        (0.1, 0.100925, 0.100337),
        (0.2, 0.207107, 0.202779),
        (0.3, 0.323754, 0.309923),
        (0.4, 0.457427, 0.425719),
        (0.5, 0.618034, 0.557875),
        (0.6, 0.822876, 0.729299),
        (2 / 3, 1.0, 1.0),
    ],
)
def test_drop_probabilities_of_a_wanted_rate(rate, resampled, restored):
    assert resampled_drop_probability(rate, 3) == pytest.approx(resampled, abs=1e-6)
    # At the largest rate the iteration approaches 1 slowly.
    assert restored_drop_probabilities([rate] * 3) == pytest.approx(
        [restored] * 3, abs=1e-6 if rate < 0.66 else 1e-3
    )


@pytest.mark.parametrize("rates", [(0.6, 0.0, 0.1), (0.5, 0.4, 0.3), (0.4, 0.4, 0.4), (0.9, 0.05)])
def test_drop_probabilities_of_a_wanted_rate_for_each_modality(rates):
    probabilities = restored_drop_probabilities(rates)
    restored = math.prod(probabilities) / len(rates)
    assert [p - restored for p in probabilities] == pytest.approx(rates, abs=1e-9)
    missing = 1 - restored_mask(N, len(rates), probabilities, generator(2)).double().mean(dim=0)
    assert missing.tolist() == pytest.approx(rates, abs=0.006)


def test_unreachable_rates_become_the_largest_reachable_ones():
    assert restored_drop_probabilities((1.0, 1.0, 1.0)) == [1.0, 1.0, 1.0]  # a rate of two thirds
    reachable = [1.0, 0.0, 0.3]  # the second is never missing
    assert restored_drop_probabilities(reachable) == reachable
    probabilities = restored_drop_probabilities((1.0, 0.1, 0.1))
    assert probabilities[0] == 1.0
    assert probabilities[1] == pytest.approx(0.1 + probabilities[1] ** 2 / 3)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        restored_mask(10, 2, [0.5, 1.5])


@pytest.mark.parametrize("sampler", [anchor_mask, resampled_mask, restored_mask])
def test_equal_seeds_give_equal_masks(sampler):
    mask, same, other = (sampler(500, 3, 0.4, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(mask, same)
    assert not torch.equal(mask, other)


@pytest.mark.parametrize("sampler", [anchor_mask, resampled_mask, restored_mask])
@pytest.mark.parametrize(("num_modalities", "rate"), [(1, 0.1), (3, -0.1), (3, 1.1)])
def test_impossible_masks_raise_an_error(sampler, num_modalities, rate):
    with pytest.raises(ValueError, match=r"modalities|rate"):
        sampler(10, num_modalities, rate)


@pytest.mark.parametrize("num_modalities", [2, 3])
@pytest.mark.parametrize("p", [0.0, 0.3, 0.8, 1.0])
def test_modality_dropout_drops_at_its_rate_and_never_all(p, num_modalities):
    uniform = torch.rand(N, num_modalities, generator=generator())
    kept = dropout_mask(uniform, torch.ones_like(uniform, dtype=torch.bool), p)
    assert bool(kept.any(dim=1).all())
    expected = p - p**num_modalities / num_modalities
    for column in kept.T:
        assert missing_rate(column) == pytest.approx(expected, abs=0.005)


def test_modality_dropout_counts_the_present_modalities_alone():
    uniform = torch.rand(N, 3, generator=generator())
    present = torch.ones(N, 3, dtype=torch.bool)
    present[:, 1] = False
    present[:10] = False
    kept = dropout_mask(uniform, present, 0.6)
    assert not kept[:, 1].any()
    assert not kept[:10].any()
    assert bool(kept[10:].any(dim=1).all())
    assert missing_rate(kept[10:, 2]) == pytest.approx(0.6 - 0.6**2 / 2, abs=0.005)
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 1.1"):
        dropout_mask(uniform, present, 1.1)
