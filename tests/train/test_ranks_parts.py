"""Parts of batches: how they are cut, joined and summed, and random numbers of ranks."""

import random
from itertools import pairwise

import pytest
import torch
from tests.train.rank_processes import on_ranks
from torch import nn

from mla_lightning import ranks
from mla_lightning.batch import as_batch, chunks_of, num_in_batch, relative_share, weight_share
from mla_lightning.data.loading import ArrayDataset, HiddenModalities
from mla_lightning.data.order import SequentialOrder, TrainOrder
from mla_lightning.errors import DataError
from mla_lightning.ranks import collectives


@pytest.fixture
def place(monkeypatch):
    """Return a function that makes this process believe that it is a rank."""

    def take(rank, num_ranks):
        monkeypatch.setattr(collectives, "world_size", lambda: num_ranks)
        monkeypatch.setattr(ranks, "world_size", lambda: num_ranks)
        monkeypatch.setattr(collectives, "rank", lambda: rank)

    return take


def test_parts_are_the_batch_in_order_and_differ_by_one_sample_at_most(place):
    for num_ranks in range(1, 6):
        for size in range(12):
            rows = torch.arange(size)
            parts = []
            for rank in range(num_ranks):
                place(rank, num_ranks)
                parts.append(ranks.part_of(rows))
            assert torch.equal(torch.cat(parts), rows)
            sizes = [len(part) for part in parts]
            assert max(sizes) - min(sizes) <= 1


def part_of_batch(dataset, order):
    return dataset[next(iter(order))]


@pytest.mark.parametrize("seed", range(20))
def test_shares_of_all_chunks_of_all_ranks_add_up_to_one(seed, place):
    draw = random.Random(seed)
    num_ranks, accumulate = draw.randint(1, 4), draw.randint(1, 5)
    size = draw.randint(num_ranks, 30)
    rng = torch.Generator().manual_seed(seed)
    has = torch.rand(size, generator=rng) < 0.3
    has[draw.randrange(size)] = True
    hidden = HiddenModalities(lambda epoch: torch.stack([has, torch.ones_like(has)], dim=1))
    inputs = {"audio": torch.randn(size, 2), "visual": torch.randn(size, 2)}
    dataset = ArrayDataset(inputs, torch.randint(3, (size,), generator=rng), hidden=hidden)
    weights_of = lambda label: 1.0 + label  # noqa: E731
    shares, seen, counts = torch.zeros(4, dtype=torch.float64), [], set()
    for rank in range(num_ranks):
        place(rank, num_ranks)
        part = part_of_batch(dataset, TrainOrder(size, size, seed))
        chunks = list(chunks_of(part, accumulate))
        counts.add(len(chunks))
        for chunk, fraction in chunks:
            assert num_in_batch(chunk) == size
            seen.append(chunk["index"])
            audio = (relative_share(chunk, "audio"), weight_share(chunk, weights_of, "audio"))
            factors = (1.0, audio[0], audio[1], weight_share(chunk, weights_of))
            shares += fraction * torch.tensor([float(factor) for factor in factors])
    torch.testing.assert_close(shares, torch.ones_like(shares), rtol=0, atol=1e-6)
    assert torch.equal(torch.cat(seen), TrainOrder(size, size, seed).permutation(0))
    if num_ranks > 1:
        assert len(counts) == 1, "a rank would wait for chunks of another"


def test_part_of_a_batch_knows_labels_and_masks_of_the_whole_batch_in_its_epoch(place):
    masks = {0: [True, False, True, True, False], 1: [False, True, True, False, True]}
    hidden = HiddenModalities(lambda epoch: torch.tensor(masks[epoch])[:, None])
    label = torch.tensor([4, 3, 2, 1, 0])
    dataset = ArrayDataset({"audio": torch.ones(5, 1)}, label, hidden=hidden)
    order = TrainOrder(5, 5, seed=0)
    for epoch in (0, 1):
        order.set_epoch(epoch)
        rows = order.permutation(epoch)
        for rank, own in enumerate(rows.tensor_split(2)):
            place(rank, 2)
            part = part_of_batch(dataset, order)
            assert torch.equal(part["index"], own)
            assert torch.equal(part["label_in_batch"], label[rows])
            has = torch.tensor(masks[epoch])
            assert torch.equal(part["present_in_batch"]["audio"], has[rows])
            assert torch.equal(part["present"]["audio"], has[own])
    place(0, 1)
    assert not {"label_in_batch", "present_in_batch"} & part_of_batch(dataset, order).keys()


def test_position_of_the_order_does_not_depend_on_the_number_of_ranks(place):
    one = TrainOrder(23, 5, seed=3)
    one.advance()
    rest = [request.indices for request in one]
    place(1, 3)
    other = TrainOrder(23, 5, seed=3)
    other.load_state_dict(one.state_dict())
    assert other.state_dict() == one.state_dict()
    assert len(other) == len(one)
    for request, whole in zip(other, rest, strict=True):
        assert torch.equal(request.batch, whole)
        assert torch.equal(request.indices, whole.tensor_split(3)[1])
    with pytest.raises(DataError, match="another order"):
        TrainOrder(23, 6, seed=3).load_state_dict(one.state_dict())


def test_every_rank_evaluates_something_of_every_batch(place):
    seen = []
    for rank in range(3):
        place(rank, 3)
        requests = SequentialOrder(7, 5, is_shared=True)
        seen.append([request.indices.tolist() for request in requests])
        assert [r.indices.tolist() for r in SequentialOrder(3, 2)] == [[0, 1], [2]]
    assert seen == [[[0, 1], [5]], [[2, 3], [6]], [[4], [5]]]  # the last one has a copy


def test_samples_with_a_modality_stay_a_part_of_those_of_the_batch():
    from tests.methods.catalogue import build_method, incomplete_batch

    module = build_method("late_fusion", incomplete_batch(2))
    has = torch.tensor([True, True, False, False])
    inputs = {"audio": torch.ones(2, 5), "visual": torch.ones(2, 5), "label": torch.zeros(2).long()}
    part = as_batch(inputs | {"present": {"audio": has[2:]}}, ["audio", "visual"])
    part["present_in_batch"] = {"audio": has, "visual": torch.ones(4, dtype=torch.bool)}
    part["label_in_batch"] = torch.tensor([7, 8, 9, 10])
    samples = module.parts.samples_with("audio", part)
    assert len(samples["label"]) == 0
    assert samples["label_in_batch"].tolist() == [7, 8]
    assert [fraction for _, fraction in chunks_of(samples, 1)] == [0.0]
    assert module.parts.samples_with("visual", part) is part
    part["present_in_batch"]["audio"] = torch.zeros(4, dtype=torch.bool)
    assert module.parts.samples_with("audio", part) is None


def messages():
    """Return what this rank gets of all; ranks have 2, 0 and 1 rows."""
    rank = ranks.rank()
    rows = torch.arange(2.0 * 3).view(3, 2).split([2, 0, 1])[rank].double()
    own = rows.clone().requires_grad_()
    joined = ranks.gathered_with_gradient(own)
    ranks.once((joined * torch.arange(6.0).view(3, 2)).sum()).backward()
    weights = [nn.Parameter(torch.zeros(n, dtype=d)) for n, d in ((2, torch.float64), (1, None))]
    weights += [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    weights[rank].grad = torch.full_like(weights[rank], rank + 1.0)
    weights[0].grad = torch.full_like(weights[0], rank + 1.0)
    mean, tracked = torch.tensor([3.0 * rank]), torch.tensor(rank)
    numbers = ranks.sum_gradients(weights, (mean, tracked), (rank, 0))
    torch.manual_seed(rank)
    before = torch.get_rng_state()
    with ranks.common_randomness(5, torch.device("cpu")):
        common = torch.rand(2)
    return {
        "total": ranks.total(torch.tensor([rank, 1])),
        "rows": ranks.gathered(rows),
        "flags": ranks.gathered(torch.tensor([rank == 1])),
        "stack": ranks.stacked(torch.tensor(rank)),
        "once": ranks.total(ranks.once(torch.tensor(5.0))),
        "any": ranks.any_rank(rank == 2),
        "none": ranks.any_rank(False),
        "numbers": numbers,
        "grads": [weight.grad for weight in weights],
        "means": (mean, tracked),
        "common": common,
    }, (own.grad, torch.equal(before, torch.get_rng_state()), torch.rand(1))


def test_messages_of_three_ranks():
    ends = on_ranks(messages, 3)
    for common, _ in ends:
        assert common["total"].tolist() == [3, 3]
        assert common["rows"].tolist() == [[0, 1], [2, 3], [4, 5]]
        assert common["rows"].dtype == torch.float64
        assert common["flags"].tolist() == [False, True, False]
        assert common["stack"].tolist() == [0, 1, 2]
        assert float(common["once"]) == pytest.approx(5)
        assert (common["any"], common["none"], common["numbers"]) == (True, False, [2, 0])
        first, second, third, no_gradient = common["grads"]
        assert first.tolist() == [6, 6]  # 1 + 2 + 3
        assert first.dtype == torch.float64
        assert (second.tolist(), third.tolist()) == ([2], [3])
        assert no_gradient is None
        assert (float(common["means"][0]), int(common["means"][1])) == (3, 2)
        assert torch.equal(common["common"], ends[0][0]["common"])
    gradients = torch.cat([own for _, (own, *_) in ends])
    assert gradients.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert all(is_restored for _, (_, is_restored, _) in ends)
    assert all(a != b for a, b in pairwise(float(drawn) for _, (*_, drawn) in ends))
