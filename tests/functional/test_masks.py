"""Masks: rates and frequencies of patterns against their closed forms."""

import math

import pytest
import torch

from mla_lightning.functional import (
    anchor_mask,
    drop_chances,
    missing_rate_of,
    reachable_rate,
    resample_chance,
    resampled_mask,
    restored_mask,
)

N = 200_000
#: Rate -> share of samples that keep 1, 2, 3 of three modalities.
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
def test_the_anchor_samplers_rates_and_patterns(rate):
    mask = anchor_mask(N, 3, rate, generator())
    assert mask.shape == (N, 3)
    assert mask.dtype == torch.bool
    kept = mask.sum(dim=1)
    assert kept.min() >= 1
    assert missing_rate_of(mask) == pytest.approx(min(rate, 2 / 3), abs=0.004)
    frequencies = [(kept == number).double().mean().item() for number in (1, 2, 3)]
    assert frequencies == pytest.approx(PATTERNS[rate], abs=0.004)
    per_modality = mask.double().mean(dim=0).tolist()
    assert per_modality == pytest.approx([1 - min(rate, 2 / 3)] * 3, abs=0.004)
    assert len(mask.unique(dim=0)) == (3 if rate == 0.7 else 7)


@pytest.mark.parametrize(("num_modalities", "rate"), [(2, 0.3), (2, 0.5), (4, 0.6), (5, 0.2)])
def test_any_number_of_modalities(num_modalities, rate):
    mask = anchor_mask(N, num_modalities, rate, generator(1))
    assert missing_rate_of(mask) == pytest.approx(rate, abs=0.004)
    assert reachable_rate(num_modalities) == (num_modalities - 1) / num_modalities


def test_the_ends():
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
def test_independent_cells_realise_less_than_they_say(chance, resampled, restored):
    for sampler, expected in ((resampled_mask, resampled), (restored_mask, restored)):
        mask = sampler(N, 3, chance, generator(2))
        assert mask.any(dim=1).all()
        assert missing_rate_of(mask) == pytest.approx(expected, abs=0.004)
        assert mask.double().mean(dim=0).tolist() == pytest.approx([1 - expected] * 3, abs=0.004)


@pytest.mark.parametrize("chance", [0.2, 0.5, 0.9])
def test_resampled_patterns_have_the_chances_of_independent_cells_given_one_is_there(chance):
    mask = resampled_mask(N, 3, chance, generator(3))
    for kept in mask.unique(dim=0):
        number = int(kept.sum())
        expected = (1 - chance) ** number * chance ** (3 - number) / (1 - chance**3)
        found = (mask == kept).all(dim=1).double().mean().item()
        assert found == pytest.approx(expected, abs=0.004)


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
def test_chances_that_realise_a_rate(rate, resampled, restored):
    assert resample_chance(rate, 3) == pytest.approx(resampled, abs=1e-6)
    # At the largest rate the iteration creeps up to 1.
    assert drop_chances([rate] * 3) == pytest.approx(
        [restored] * 3, abs=1e-6 if rate < 0.66 else 1e-3
    )


@pytest.mark.parametrize("rates", [(0.6, 0.0, 0.1), (0.5, 0.4, 0.3), (0.4, 0.4, 0.4), (0.9, 0.05)])
def test_chances_realise_a_rate_for_each_modality(rates):
    chances = drop_chances(rates)
    back = math.prod(chances) / len(rates)
    assert [p - back for p in chances] == pytest.approx(rates, abs=1e-9)
    found = 1 - restored_mask(N, len(rates), chances, generator(2)).double().mean(dim=0)
    assert found.tolist() == pytest.approx(rates, abs=0.006)


def test_chances_of_what_cannot_be_reached_realise_the_most_that_can():
    assert drop_chances((1.0, 1.0, 1.0)) == [1.0, 1.0, 1.0]  # realises two thirds
    assert drop_chances((1.0, 0.0, 0.3)) == [1.0, 0.0, 0.3]  # reachable: the second is always there
    chances = drop_chances((1.0, 0.1, 0.1))
    assert chances[0] == 1.0
    assert chances[1] == pytest.approx(0.1 + chances[1] ** 2 / 3)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        restored_mask(10, 2, [0.5, 1.5])


@pytest.mark.parametrize("sampler", [anchor_mask, resampled_mask, restored_mask])
def test_a_seed_is_a_mask(sampler):
    one, same, other = (sampler(500, 3, 0.4, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("sampler", [anchor_mask, resampled_mask, restored_mask])
@pytest.mark.parametrize(("num_modalities", "rate"), [(1, 0.1), (3, -0.1), (3, 1.1)])
def test_impossible_masks_are_refused(sampler, num_modalities, rate):
    with pytest.raises(ValueError, match=r"modalities|rate"):
        sampler(10, num_modalities, rate)
