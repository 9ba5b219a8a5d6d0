"""Remix against its algorithm box, its equivalence, its switches and its errors."""

import pytest
import torch
from tests.methods.catalogue import SIZE
from tests.methods.harness import batches, build, fit, planned, weights
from tests.methods.rows import (
    all_present,
    features_of,
    fused_of,
    nll,
    plain_loop,
    recorded,
    rows_of,
)

from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Concat, ConcatHeads
from mla_lightning.methods import JointUnimodal, Remix


def own_of(weights, features):
    return {
        m: h @ weights[f"fusion.heads.{m}.weight"].T + weights[f"fusion.heads.{m}.bias"]
        for m, h in features.items()
    }


def loss_of(weights, inputs, y, present, epoch, gamma=0.7):
    features = features_of(weights, inputs, present)
    total = nll(fused_of(weights, features), y).mean()
    for m, z in own_of(weights, features).items():
        if present[m].any():
            own = (nll(z, y) * present[m]).sum() / present[m].sum()
            total = total + (0.5 if epoch == 0 else gamma) * own
    return total


@pytest.mark.parametrize("num_modalities", [2, 3])
@pytest.mark.parametrize("order", ["blocks", "mixed"])
def test_remix_is_its_algorithm(num_modalities, order):
    module, whole, _, steps = recorded("remix", num_modalities, gamma=0.7, order=order)
    warmup = [step for step in steps if step[0] == 0]
    later = [step for step in steps if step[0] == 1]
    assert rows_of(warmup, num_modalities, SIZE)[:, 0].tolist() == [1] * SIZE
    before = later[0][1]
    own = own_of(before, features_of(before, whole["inputs"], all_present(whole)))
    expected = torch.zeros(SIZE, 1 + num_modalities, dtype=torch.int64)
    for i in range(SIZE):
        kappa = []
        for z in own.values():
            p = z[i].exp() / z[i].exp().sum()
            kappa.append(float((p * (p * len(p)).log2()).sum()))
        expected[i, 1 + kappa.index(min(kappa))] = 1
    assert torch.equal(rows_of(later, num_modalities, SIZE), expected)
    assert torch.equal(module.counts.long(), expected)
    ended = plain_loop(steps, whole, loss_of)
    for key, value in ended.items():
        torch.testing.assert_close(module.state_dict()[key], value, rtol=1e-9, atol=1e-11)


def test_batches_have_one_modality_each_and_the_last_one_comes_first():
    _, _, losses, steps = recorded("remix", 3)
    later = [
        next(m for m, has in present.items() if has.all())
        for epoch, _, _, present in steps
        if epoch == 1
    ]
    assert later == sorted(later, key=["text", "visual", "audio"].index)
    assert len(set(later)) > 1
    for name, loss in zip(later, losses[3:], strict=True):
        assert loss.keys() == {"joint", name}


def test_ties_go_to_the_later_modality():
    module, whole, *_ = recorded("remix", 3)
    first = module.modalities[0]
    for name in module.modalities[1:]:
        module.encoders[name] = module.encoders[first]
        module.fusion.heads[name] = module.fusion.heads[first]
        whole["inputs"][name] = whole["inputs"][first]
    module.training_batches = lambda: [whole]
    with torch.no_grad():
        assert module.count_rows().tolist() == [[0, 0, 0, 1]] * SIZE


def test_the_warmup_is_joint_training_with_half_the_unimodal_losses_bit_for_bit():
    data = batches(3)
    parts = {"train_batches": lambda: data}
    one = build(Remix, ConcatHeads, data, warmup_epochs=1, parts=parts)
    other = build(JointUnimodal, ConcatHeads, data, unimodal_weight=0.5)
    assert fit(one, data, epochs=2)[:3] == fit(other, list(planned(data)))


@pytest.mark.parametrize(
    "option", [{"gamma": 0.3}, {"order": "mixed"}, {"masked_encoders": "run"}, {"warmup_epochs": 0}]
)
def test_a_setting_changes_the_training(option):
    momentum = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)}
    usual, *_ = recorded("remix", **momentum)
    other, *_ = recorded("remix", **momentum, **option)
    assert not torch.equal(weights(usual), weights(other))


def test_errors_say_what_to_do():
    data = batches(1)
    options = {"parts": {"train_batches": lambda: data}}
    with pytest.raises(ConfigError, match=r"gamma must be >= 0, got -1"):
        build(Remix, ConcatHeads, data, gamma=-1, **options)
    with pytest.raises(ConfigError, match=r"order='blok' is unknown\. Did you mean 'blocks'"):
        build(Remix, ConcatHeads, data, order="blok", **options)
    with pytest.raises(ConfigError, match=r"unimodal_rule=slice\. Use fusion@method\.fusion="):
        build(Remix, Concat, data, **options)
    with pytest.raises(ConfigError, match="Remix is not for regression: one number has no"):
        Remix.check_task("regression")
