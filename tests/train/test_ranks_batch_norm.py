"""Batch normalisation over ranks equals torch's of the whole batch."""

import copy
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from tests.train.rank_processes import on_ranks
from torch import nn

from mla_lightning import ranks
from mla_lightning.errors import ConfigError
from mla_lightning.ranks import batch_norm

#: Words of a layer -> (layer, shape of a sample).
LAYERS = {
    "vectors": (lambda: nn.BatchNorm1d(3), (3,)),
    "sequences": (lambda: nn.BatchNorm1d(3, momentum=None), (3, 4)),
    "images": (lambda: nn.BatchNorm2d(3, affine=False), (3, 2, 3)),
    "videos": (lambda: nn.BatchNorm3d(3, eps=0.1, momentum=0.5), (3, 2, 1, 2)),
}
#: Samples of each rank in two batches.
SIZES = {2: ((3, 2), (5, 0)), 3: ((2, 1, 4), (0, 6, 1))}


def inputs(shape, sizes, seed):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(sizes), *shape, generator=rng, dtype=torch.float64)
    return 3 * x + 10  # away from 0, where sums of squares would lose digits


def layer_of(make):
    torch.manual_seed(0)
    layer = make().double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def outcome(layer, x, weight):
    """Return outputs and gradients of a sum of the outputs with weights."""
    x = x.clone().requires_grad_()
    output = layer(x)
    (output * weight).sum().backward()
    return output.detach(), x.grad


def of_ranks(make, shape, all_sizes):
    """Normalise two batches on this rank; a rank without samples takes part with one of zeros."""
    layer = layer_of(make)
    ranks.synchronise_batch_norms(layer)
    ends = []
    for seed, sizes in enumerate(all_sizes):
        rank = ranks.rank()
        x, weight = (inputs(shape, sizes, s).split(sizes)[rank] for s in (seed, seed + 9))
        if len(x):
            ends.append(outcome(layer, x, weight))
            continue
        with ranks.without_samples():
            missing = x.new_full((1, *shape), torch.nan)
            ends.append(tuple(value[:0] for value in outcome(layer, missing, missing)))
    gradients = [ranks.total(p.grad) for p in layer.parameters()]
    return ends, gradients, dict(layer.named_buffers())


@pytest.mark.parametrize("num_ranks", SIZES)
def test_statistics_outputs_and_gradients_are_those_of_the_whole_batch(num_ranks):
    sizes = SIZES[num_ranks]
    all_ends = on_ranks(
        lambda: {key: of_ranks(*layer, sizes) for key, layer in LAYERS.items()}, num_ranks
    )
    for key, (make, shape) in LAYERS.items():
        layer = layer_of(make)
        whole = [
            outcome(layer, inputs(shape, s, seed), inputs(shape, s, seed + 9))
            for seed, s in enumerate(sizes)
        ]
        close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)
        for number, (output, gradient) in enumerate(whole):
            parts = [ends[key][0][number] for ends in all_ends]
            close(torch.cat([part for part, _ in parts]), output)
            close(torch.cat([part for _, part in parts]), gradient)
        for ends in all_ends:
            torch.testing.assert_close(ends[key][1:], all_ends[0][key][1:], rtol=0, atol=0)
        close(all_ends[0][key][1], [p.grad for p in layer.parameters()])
        close(all_ends[0][key][2], dict(layer.named_buffers()))


def test_gradients_are_those_of_the_numbers(monkeypatch):
    """With the other ranks' sums held fixed, they are exact; here there is one rank alone."""
    monkeypatch.setattr(batch_norm, "world_size", lambda: 2)
    layer = layer_of(lambda: nn.BatchNorm2d(2))
    ranks.synchronise_batch_norms(layer)
    x = inputs((2, 2, 1), (4,), 0).requires_grad_()

    def normalised(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(normalised, (x, layer.weight, layer.bias))


def test_half_precision_is_normalised_in_single(monkeypatch):
    monkeypatch.setattr(batch_norm, "world_size", lambda: 2)
    layer = nn.BatchNorm1d(3)
    whole = copy.deepcopy(layer)
    ranks.synchronise_batch_norms(layer)
    x = inputs((3,), (64,), 0).bfloat16()
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    output, expected = layer(one), whole(other)
    assert output.dtype == expected.dtype == torch.bfloat16
    output.float().square().sum().backward()
    expected.float().square().sum().backward()
    assert one.grad.dtype == torch.bfloat16
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(layer.running_var, whole.running_var)
    torch.testing.assert_close(layer.weight.grad, whole.weight.grad, rtol=0.01, atol=0.01)


def test_a_single_value_on_all_devices_is_an_error_on_each():
    def message():
        layer = layer_of(LAYERS["vectors"][0])
        ranks.synchronise_batch_norms(layer)
        x = torch.ones(1, 3, dtype=torch.float64)
        has_sample = nullcontext() if ranks.is_first() else ranks.without_samples()
        with has_sample, pytest.raises(ValueError, match="more than 1 value") as raised:
            layer(x)
        return str(raised.value)

    assert len(set(on_ranks(message))) == 1


def test_a_chunk_that_no_rank_has_samples_of_changes_no_statistics():
    def state():
        layer = layer_of(LAYERS["vectors"][0])
        before = copy.deepcopy(layer.state_dict())
        ranks.synchronise_batch_norms(layer)
        with ranks.without_samples():
            layer(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
        return before, layer.state_dict()

    for before, after in on_ranks(state):
        torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_nothing_is_replaced_or_changed_in_one_process():
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    other = copy.deepcopy(network)
    keys = list(network.state_dict())
    ranks.synchronise_batch_norms(network)
    assert list(network.state_dict()) == keys
    x = torch.randn(4, 3)
    assert torch.equal(network(x), other(x))
    assert torch.equal(network[1].running_mean, other[1].running_mean)


class OwnNorm(nn.BatchNorm1d):
    pass


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.SyncBatchNorm(2), "layer '1' is a SyncBatchNorm, whose statistics"),
        (OwnNorm(2), "layer '1' is a OwnNorm, whose statistics"),
        (nn.BatchNorm1d(2, track_running_stats=False), "layer '1' .* without running statistics"),
    ],
)
def test_layers_whose_statistics_cannot_be_those_of_all_ranks_are_refused(layer, words):
    with pytest.raises(ConfigError, match=words):
        ranks.check_batch_norms(nn.Sequential(nn.Linear(2, 2), layer))
