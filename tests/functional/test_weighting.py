"""Weights of the modalities at test time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from mla_lightning.functional import (
    batch_entropy_weights,
    confidence_of_present,
    energy_confidence,
    entropy_weights,
    fixed_weights,
    fuse_logits,
    mean_weights,
)

E5 = torch.tensor([[[2.0, 0, 0], [0, 0, 0]], [[1.0, 0, 0], [0, 3.0, 0]]])
E7 = torch.tensor([[[2.0, 0, 0]], [[1.0, 0, 0]], [[0, 3.0, 0]]])


def near(actual, expected):
    assert_close(actual, torch.tensor(expected), atol=2e-6, rtol=0)


def random_logits(seed, m=3, b=5, c=4):
    return 4 * torch.randn(m, b, c, generator=torch.Generator().manual_seed(seed))


def test_entropy_of_two_modalities():  # E5
    weights = entropy_weights(E5)
    near(weights, [[0.576825, 0.324752], [0.423175, 0.675248]])
    near(fuse_logits(weights, E5), [[1.576825, 0, 0], [0, 2.025744, 0]])


def test_the_released_batch_scalar():  # E6
    weights = batch_entropy_weights(E5)
    near(weights[:, 0], [0.429127, 0.570873])
    near(fuse_logits(weights, E5), [[1.429127, 0, 0], [0, 1.712618, 0]])
    near(batch_entropy_weights(E5[:, :1]), [[0.5], [0.5]])


def test_entropy_of_three_modalities():  # E7
    weights = entropy_weights(E7)
    near(weights[:, 0], [0.324453, 0.238028, 0.437519])
    near(fuse_logits(weights, E7), [[0.886934, 1.312557, 0]])


#: Three modalities' logits of one sample.
AVL = torch.tensor([[[2.0, 0, 0, 0]], [[0, 1.0, 0, 0]], [[0, 0, 0.5, 0]]])


def test_a_missing_modality_leaves_its_weight_to_the_others():
    near(entropy_weights(AVL)[:, 0], [0.4258794, 0.3001068, 0.2740138])
    near(fuse_logits(entropy_weights(AVL), AVL), [[0.8517588, 0.3001068, 0.1370069, 0]])
    without = torch.tensor([[True], [False], [True]])
    near(entropy_weights(AVL, without)[:, 0], [0.608492, 0, 0.391508])
    near(fuse_logits(entropy_weights(AVL, without), AVL), [[1.216984, 0, 0.195754, 0]])
    log_p = AVL.log_softmax(dim=-1)
    near(-(log_p.exp() * log_p).sum(dim=-1)[:, 0], [0.9182838, 1.2683015, 1.3592616])


def test_confidence_of_present_modalities():
    confidence = energy_confidence(AVL)
    near(confidence[:, 0], [0.2340753, 0.1743668, 0.1536592])
    near((confidence[..., None] * AVL).sum(dim=0), [[0.4681506, 0.1743668, 0.0768296, 0]])
    confidence = torch.tensor([[0.3, -0.2, -0.2, 0.4], [-0.1, 0.5, -0.3, -0.5]])
    present = torch.tensor([[True, True, True, False], [True, True, False, True]])
    near(confidence_of_present(confidence, present), [[0.3, -0.2, 1.0, 0], [-0.1, 0.5, 0, 1.0]])
    confidence[1, 2] = torch.nan
    near(confidence_of_present(confidence, present), [[0.3, -0.2, 1.0, 0], [-0.1, 0.5, 0, 1.0]])


def test_the_released_batch_scalar_of_present_modalities():
    single = torch.tensor([[[2.0, 0, 0, 0], [0, 1.0, 0, 0]]])
    log_p = single.log_softmax(dim=1)
    near(-(log_p.exp() * log_p).sum()[None], [2.3338313])
    logits = random_logits(3, m=2, b=4)
    present = torch.tensor([[True, True, True, False], [True, True, False, True]])
    assert_close(
        batch_entropy_weights(logits, torch.ones_like(present)), batch_entropy_weights(logits)
    )
    weights = batch_entropy_weights(logits, present)
    assert_close(weights.sum(dim=0), torch.ones(4))
    near(weights[:, 2:], [[1.0, 0], [0, 1.0]])
    alone = torch.stack([logits[0, :3], logits[1, [0, 1, 3]]])  # the samples that have it
    near(weights[:, 0], batch_entropy_weights(alone)[:, 0].tolist())
    poisoned = logits.masked_fill(~present[..., None], torch.nan)
    assert_close(batch_entropy_weights(poisoned, present), weights)


def test_fixed_weights():  # E8
    weights = fixed_weights([0.55, 0.45], torch.ones(2, 2, dtype=torch.bool))
    near(fuse_logits(weights, E5), [[1.55, 0, 0], [0, 1.35, 0]])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999))
def test_properties_for_any_logits(seed):
    logits = random_logits(seed)
    weights = entropy_weights(logits)
    assert_close(weights.sum(dim=0), torch.ones(5))
    order = torch.tensor([2, 0, 1])
    assert_close(entropy_weights(logits[order]), weights[order])
    assert_close(
        torch.cat([entropy_weights(logits[:, :2]), entropy_weights(logits[:, 2:])], 1), weights
    )
    assert not torch.allclose(
        torch.cat([batch_entropy_weights(logits[:, :2]), batch_entropy_weights(logits[:, 2:])], 1),
        batch_entropy_weights(logits),
    )
    p = logits.softmax(-1)
    e = -(p * p.log()).sum(-1)
    unnormalised = (e.max(dim=0).values - e).exp()
    assert_close(weights, unnormalised / unnormalised.sum(dim=0))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999))
def test_absent_modalities_have_no_effect(seed):
    logits = random_logits(seed)
    present = torch.rand(3, 5, generator=torch.Generator().manual_seed(seed)) > 0.4
    poisoned = logits.masked_fill(~present[..., None], torch.nan)
    for rule in (
        lambda z: entropy_weights(z, present),
        lambda z: mean_weights(present),
        lambda z: fixed_weights([0.5, 0.3, 0.2], present),
    ):
        weights = rule(poisoned)
        assert (weights[~present] == 0).all()
        assert_close(weights.sum(dim=0), present.any(dim=0).float())
        assert_close(fuse_logits(weights, poisoned), fuse_logits(rule(logits), logits))
    only_second = torch.zeros(3, 5, dtype=torch.bool)
    only_second[1] = True
    assert_close(fuse_logits(entropy_weights(logits, only_second), logits), logits[1])


def test_a_certain_and_an_undecided_modality():
    logits = torch.tensor([[[1000.0, 0, 0, 0]], [[0.0, 0, 0, 0]]])
    weights = entropy_weights(logits)[:, 0]
    assert weights[0] == pytest.approx(4 / 5)  # exp(log 4) against exp(0)
    assert batch_entropy_weights(logits.expand(-1, 3, -1)).isfinite().all()


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"\(M, B, C\)"):
        entropy_weights(E5[0])
    with pytest.raises(ValueError, match="present"):
        entropy_weights(E5, torch.ones(2, 3, dtype=torch.bool))
    for bad in ([1.0], [-1.0, 2.0], [0.0, 0.0]):
        with pytest.raises(ValueError, match="weights must be 2 numbers"):
            fixed_weights(bad, torch.ones(2, 1, dtype=torch.bool))
