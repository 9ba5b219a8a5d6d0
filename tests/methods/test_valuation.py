"""Valuation against its algorithm box, its equivalences, its switches and its errors."""

from functools import partial
from itertools import combinations, permutations

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
from mla_lightning.fusion import Concat
from mla_lightning.methods import Joint, Valuation
from mla_lightning.randomness import derive_seed


def loss_of(weights, inputs, y, present, epoch):
    return nll(fused_of(weights, features_of(weights, inputs, present)), y).mean()


def values_of(state, whole):
    """Return the value of every subset of modalities (N,), by names."""
    names, values = [*whole["inputs"]], {}
    for size in range(1, len(names) + 1):
        for subset in combinations(names, size):
            present = {m: has & (m in subset) for m, has in all_present(whole).items()}
            z = fused_of(state, features_of(state, whole["inputs"], present))
            values[frozenset(subset)] = size * (z.argmax(dim=1) == whole["label"]).double()
    return values | {frozenset(): torch.zeros(SIZE).double()}


def shapley(state, whole):
    """Mean gain of each modality over all orders in which they join."""
    values, names = values_of(state, whole), [*whole["inputs"]]
    phi = {m: torch.zeros(SIZE).double() for m in names}
    orders = [*permutations(names)]
    for order in orders:
        for place, m in enumerate(order):
            phi[m] += values[frozenset(order[: place + 1])] - values[frozenset(order[:place])]
    return torch.stack([phi[m] / len(orders) for m in names])


def copies(phi):
    return 0 if phi > 1 - 1e-9 else 1 if phi > 0.4 else 2 if phi > -0.1 else 3


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_valuation_is_its_algorithm(num_modalities):
    module, whole, losses, steps = recorded("valuation", num_modalities)
    later = [step for step in steps if step[0] == 1]
    phi = shapley(later[0][1], whole)
    expected = torch.ones(SIZE, 1 + num_modalities, dtype=torch.int64)
    for i in range(SIZE):
        for m in range(num_modalities):
            expected[i, 1 + m] = copies(float(phi[m, i]))
    assert torch.equal(rows_of(later, num_modalities, SIZE), expected)
    assert len(later) > 3
    assert len(losses) == len(steps)
    ended = plain_loop(steps, whole, loss_of)
    for key, value in ended.items():
        torch.testing.assert_close(module.state_dict()[key], value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_the_level_of_modalities_repeats_a_share_of_the_samples(num_modalities):
    options = {"level": "modality", "part": 1.0, "alpha": 6.0}
    module, whole, _, steps = recorded("valuation", num_modalities, **options)
    later = [step for step in steps if step[0] == 1]
    mean = shapley(later[0][1], whole).mean(dim=1)
    counts = rows_of(later, num_modalities, SIZE)
    assert counts[:, 0].tolist() == [1] * SIZE
    shares = 6.0 * 2 / 3 * (mean.max() - mean)
    assert counts[:, 1:].sum(dim=0).tolist() == [round(s * SIZE) for s in shares.tolist()]
    assert int(counts[:, 1:].sum()) > 0
    assert int(counts[:, 1:].max()) > 1  # samples are drawn with replacement
    for m, (name, share) in enumerate(zip(whole["inputs"], shares.tolist(), strict=True)):
        rng = torch.Generator().manual_seed(derive_seed(0, "valuation", "drawn", name, 1))
        drawn = torch.randint(SIZE, (round(share * SIZE),), generator=rng).tolist()
        assert counts[:, 1 + m].tolist() == [drawn.count(i) for i in range(SIZE)]
    ended = plain_loop(steps, whole, loss_of)
    for key, value in ended.items():
        torch.testing.assert_close(module.state_dict()[key], value, rtol=1e-9, atol=1e-11)


def test_a_part_of_the_samples_is_valued_at_the_level_of_modalities():
    module, whole, *_ = recorded("valuation", level="modality", part=0.5)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    phi = shapley(state, whole)
    module.training_batches = lambda: [whole]
    number, means = int(SIZE * 0.5), module._mean_contributions().double()
    sums = (means * number).tolist()
    assert sums == pytest.approx([round(2 * s) / 2 for s in sums], abs=1e-5)  # halves add up
    chosen = [phi[:, list(c)].mean(dim=1) for c in combinations(range(SIZE), number)]
    assert any(torch.allclose(means, mean, atol=1e-6) for mean in chosen)


def test_the_warmup_is_joint_training_bit_for_bit():
    data = batches(3)
    parts = {"train_batches": lambda: data}
    one = build(Valuation, Concat, data, warmup_epochs=1, parts=parts)
    other = build(Joint, Concat, data)
    assert fit(one, data, epochs=2)[:3] == fit(other, list(planned(data)))


def test_a_model_that_is_always_right_trains_on_plain_epochs():
    data = batches(3)
    parts = {"train_batches": lambda: data}
    one = build(Valuation, Concat, data, warmup_epochs=0, parts=parts)
    one._contributions = lambda batch: torch.ones(2, len(batch["label"]))
    other = build(Joint, Concat, data)
    assert fit(one, data) == fit(other, list(planned(data)))
    assert torch.equal(weights(one), weights(other))
    assert torch.equal(one.counts, one.whole_samples())


def normalised():
    """Return encoders with a batch normalisation, whose statistics show which rows they had."""
    torch.manual_seed(0)
    layers = {
        m: torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8))
        for m in ("audio", "visual")
    }
    for layer in layers.values():
        layer.out_features = 8
    return {"encoders": layers}


@pytest.mark.parametrize(
    "option", [{"level": "modality"}, {"masked_encoders": "run"}, {"warmup_epochs": 0}]
)
def test_a_setting_changes_the_training(option):
    usual, *_ = recorded("valuation", **normalised())
    other, *_ = recorded("valuation", **normalised(), **option)
    assert not torch.equal(weights(usual), weights(other))


@pytest.mark.parametrize("option", [{"part": 0.4}, {"alpha": 3.0}])
def test_a_setting_of_the_level_of_modalities_changes_the_training(option):
    usual, *_ = recorded("valuation", level="modality")
    other, *_ = recorded("valuation", level="modality", **option)
    assert not torch.equal(weights(usual), weights(other))


def test_errors_say_what_to_do():
    data = batches(1)
    made = partial(build, Valuation, Concat, data, parts={"train_batches": lambda: data})
    with pytest.raises(ConfigError, match=r"level='samples' is unknown\. Did you mean 'sample'"):
        made(level="samples")
    with pytest.raises(ConfigError, match=r"part must be in \(0, 1\], got 0"):
        made(level="modality", part=0)
    with pytest.raises(ConfigError, match="alpha must be > 0, got 0"):
        made(level="modality", alpha=0)
    for option in ({"part": 0.3}, {"alpha": 0.3}):
        with pytest.raises(ConfigError, match=r"no effect with method\.level=sample\. Leave"):
            made(**option)
    with pytest.raises(ConfigError, match="Valuation is not for multilabel: several labels"):
        Valuation.check_task("multilabel")
