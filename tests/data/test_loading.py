"""Batches, their order, and loaders that go on where they stopped."""

import time
from itertools import chain

import pytest
import torch

from mla_lightning.data.base import MultimodalDataModule, Split
from mla_lightning.data.loading import Request, SequentialOrder, TrainOrder
from mla_lightning.errors import DataError

NUM, BATCH = 23, 5


class Toy(MultimodalDataModule):
    name = "toy"
    all_modalities = ("audio", "visual")
    class_names = ("even", "odd")

    def load_splits(self):
        rows = torch.arange(NUM)
        audio = torch.stack([rows.float(), -rows.float()], dim=1)
        inputs = {"audio": audio, "visual": rows.view(-1, 1, 1).repeat(1, 2, 3)}
        present = {"visual": rows != 4}
        return dict.fromkeys(("train", "val", "test"), Split(inputs, rows % 2, present))


class Noisy(Toy):
    def transform(self, inputs, generator):
        return {**inputs, "audio": inputs["audio"] + torch.randn(2, generator=generator)}


def toy(kind=Toy, **options):
    return kind(**{"batch_size": BATCH, "seed": 3, **options})


def indices(batches):
    return [batch["index"].tolist() for batch in batches]


def equal(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    return torch.equal(one, other)


def test_a_batch_holds_the_rows_that_were_asked_for():
    data = toy().loader("val").dataset
    rows = torch.tensor([7, 4, 0])
    batch = data[Request(0, rows)]
    assert batch.keys() == {"inputs", "label", "index", "present"}
    assert list(batch["inputs"]) == ["audio", "visual"]
    assert batch["inputs"]["audio"].tolist() == [[7, -7], [4, -4], [0, 0]]
    assert batch["inputs"]["visual"].shape == (3, 2, 3)
    assert batch["label"].tolist() == [1, 0, 0]
    assert batch["index"].tolist() == [7, 4, 0]
    assert batch["label"].dtype == batch["index"].dtype == torch.int64
    assert batch["present"]["audio"].tolist() == [True, True, True]
    assert batch["present"]["visual"].tolist() == [True, False, True]
    assert batch["present"]["visual"].dtype == torch.bool


def test_batches_share_no_memory_with_the_data_or_with_each_other():
    data = toy()
    data.setup()
    for _ in range(2):
        for batch in data.loader("train"):
            assert indices([batch])[0] == batch["inputs"]["audio"][:, 0].long().tolist()
            for part in (batch, batch["inputs"], batch["present"]):
                for values in part.values():
                    if isinstance(values, torch.Tensor):
                        values.zero_()
            assert not batch["present"]["audio"].any()


def test_the_order_is_a_function_of_seed_and_epoch():
    orders = {
        (seed, epoch): TrainOrder(NUM, BATCH, seed).permutation(epoch).tolist()
        for seed in (0, 1)
        for epoch in (0, 1, 2)
    }
    assert all(sorted(order) == list(range(NUM)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 6
    torch.manual_seed(99)
    assert TrainOrder(NUM, 2, 1).permutation(2).tolist() == orders[1, 2]


def test_every_epoch_is_whole_and_new():
    loader = toy().train_dataloader()
    first, second = indices(loader), indices(loader)
    for epoch in (first, second):
        assert len(epoch) == len(loader) == 5
        assert [len(rows) for rows in epoch] == [5, 5, 5, 5, 3]
        assert sorted(chain(*epoch)) == list(range(NUM))
    assert first != second
    assert indices(toy().train_dataloader()) == first
    assert indices(toy(seed=4).train_dataloader()) != first


def test_fewer_samples_than_a_batch_make_one_batch():
    data = toy(batch_size=100, eval_batch_size=100)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert len(loader) == 1
        assert [len(rows) for rows in indices(loader)] == [NUM]


def test_evaluation_keeps_the_order_in_larger_batches():
    loader = toy(eval_batch_size=20).test_dataloader()
    assert indices(loader) == [list(range(20)), [20, 21, 22]]
    assert indices(loader) == [list(range(20)), [20, 21, 22]]
    assert len(SequentialOrder(40, 20)) == 2


def test_workers_change_nothing():
    without, with_two = (toy(Noisy, num_workers=n).train_dataloader() for n in (0, 2))
    for _ in range(2):
        pairs = list(zip(without, with_two, strict=True))
        assert len(pairs) == len(without)
        assert all(equal(one, other) for one, other in pairs)


def noise_of(loader):
    """Sample -> its noise, over one epoch."""
    noise = {}
    for batch in loader:
        clean = torch.stack([batch["index"], -batch["index"]], dim=1)
        for row, value in zip(
            batch["index"].tolist(), batch["inputs"]["audio"] - clean, strict=True
        ):
            noise[row] = [round(number, 4) for number in value.tolist()]
    return noise


def test_a_samples_randomness_depends_on_seed_epoch_and_sample_alone():
    loader = toy(Noisy).train_dataloader()
    first, second = noise_of(loader), noise_of(loader)
    assert len({tuple(value) for value in first.values()}) == NUM
    assert all(first[row] != second[row] for row in first)
    assert noise_of(toy(Noisy, batch_size=7).train_dataloader()) == first
    assert noise_of(toy(Noisy, seed=4).train_dataloader()) != first


def test_evaluation_is_never_transformed():
    data = toy(Noisy)
    for split in ("train", "val", "test"):
        assert all(value == [0, 0] for value in noise_of(data.loader(split)).values())


def test_loading_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    data = toy(Noisy)
    list(data.train_dataloader()), list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 2), (0, 2), (2, 0)])
def test_a_loader_goes_on_where_it_stopped(before, after):
    whole = toy().train_dataloader()
    expected = [indices(whole) for _ in range(3)]
    for stop in (1, 4, 5, 7) if before == after == 0 else (3, 5):
        loader = toy(num_workers=before).train_dataloader()
        seen = []
        while len(seen) < stop:
            for batch in loader:
                seen.append(batch["index"].tolist())
                if len(seen) == stop:
                    break
        state = loader.state_dict()
        assert (state["epoch"], state["batch"]) == divmod(stop, 5)
        resumed = toy(num_workers=after).train_dataloader()
        resumed.load_state_dict(state)
        assert len(resumed) == 5  # of the whole epoch: Lightning counts from its start
        while len(seen) < 15:
            seen += indices(resumed)
        assert seen == list(chain(*expected))


def test_batches_that_workers_fetched_ahead_do_not_count():
    loader = toy(num_workers=2).train_dataloader()
    next(iter(loader))
    time.sleep(0.3)
    assert loader.state_dict()["batch"] == 1


def test_the_state_is_plain_numbers():
    state = toy().train_dataloader().state_dict()
    assert all(type(value) is int for value in state.values())


def test_an_epoch_left_half_way_is_over():
    loader, whole = toy().train_dataloader(), toy().train_dataloader()
    expected = [indices(whole) for _ in range(2)]
    for batch in loader:
        assert batch["index"].tolist() == expected[0][0]
        break
    assert indices(loader) == expected[1]


def test_starting_again_without_taking_a_batch_stays_where_it_was():
    whole = toy().train_dataloader()
    loader = toy().train_dataloader()
    loader.load_state_dict({**loader.state_dict(), "epoch": 1, "batch": 2})
    iter(loader), iter(loader)
    indices(whole)
    assert indices(loader) == indices(whole)[2:]


def test_the_epoch_can_be_set():
    whole = toy().train_dataloader()
    expected = [indices(whole) for _ in range(3)]
    loader = toy().train_dataloader()
    loader.set_epoch(2)
    assert indices(loader) == expected[2]
    loader.set_epoch(1)
    batches = iter(loader)
    next(batches)
    loader.set_epoch(1)  # the epoch it is in: nothing happens
    assert indices(batches) == expected[1][1:]


@pytest.mark.parametrize("change", [{"seed": 9}, {"batch_size": 4}])
def test_half_an_epoch_of_another_order_is_refused(change):
    state = toy().train_dataloader().state_dict()
    loader = toy(**change).train_dataloader()
    loader.load_state_dict({**state, "epoch": 2})  # at the end of an epoch, nothing is lost
    assert loader.state_dict()["epoch"] == 2
    (key,) = change
    with pytest.raises(DataError, match=rf"batch 3 of epoch 3 in another order .*{key}"):
        loader.load_state_dict({**state, "epoch": 2, "batch": 3})
