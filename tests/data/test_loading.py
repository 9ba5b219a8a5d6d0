"""Batches, their order, and loaders that resume."""

import time
from itertools import chain

import pytest
import torch

from mla_lightning.data.base import MultimodalDataModule, Split
from mla_lightning.data.order import Request, SequentialOrder, TrainOrder
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


def equal(batch, other):
    if isinstance(batch, dict):
        return batch.keys() == other.keys() and all(equal(batch[k], other[k]) for k in batch)
    return torch.equal(batch, other)


def test_a_batch_holds_the_requested_rows():
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
            for tensors in (batch, batch["inputs"], batch["present"]):
                for values in tensors.values():
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


def test_every_epoch_is_complete_and_in_a_new_order():
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


def test_evaluation_keeps_the_order_with_its_own_batch_size():
    loader = toy(eval_batch_size=20).test_dataloader()
    assert indices(loader) == [list(range(20)), [20, 21, 22]]
    assert indices(loader) == [list(range(20)), [20, 21, 22]]
    assert len(SequentialOrder(40, 20)) == 2


def test_workers_change_nothing():
    without, with_two = (toy(Noisy, num_workers=n).train_dataloader() for n in (0, 2))
    for _ in range(2):
        pairs = list(zip(without, with_two, strict=True))
        assert len(pairs) == len(without)
        assert all(equal(batch, other) for batch, other in pairs)


def noise_of(loader):
    """Return the noise of each sample in one epoch."""
    noise = {}
    for batch in loader:
        clean = torch.stack([batch["index"], -batch["index"]], dim=1)
        for row, value in zip(
            batch["index"].tolist(), batch["inputs"]["audio"] - clean, strict=True
        ):
            noise[row] = [round(number, 4) for number in value.tolist()]
    return noise


def test_the_noise_of_a_sample_depends_only_on_seed_epoch_and_sample():
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


def test_loading_does_not_change_the_global_generator():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    data = toy(Noisy)
    list(data.train_dataloader()), list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 2), (0, 2), (2, 0)])
def test_a_loader_resumes_where_it_stopped(before, after):
    whole = toy().train_dataloader()
    expected = [indices(whole) for _ in range(3)]
    for stop in (1, 4, 5, 7) if before == after == 0 else (3, 5):
        loader = toy(num_workers=before).train_dataloader()
        delivered = []
        while len(delivered) < stop:
            for batch in loader:
                delivered.append(batch["index"].tolist())
                if len(delivered) == stop:
                    break
        state = loader.state_dict()
        assert (state["epoch"], state["batch"]) == divmod(stop, 5)
        resumed = toy(num_workers=after).train_dataloader()
        resumed.load_state_dict(state)
        assert len(resumed) == 5  # of the whole epoch: Lightning counts batches from its start
        while len(delivered) < 15:
            delivered += indices(resumed)
        assert delivered == list(chain(*expected))


def test_prefetched_batches_do_not_count():
    loader = toy(num_workers=2).train_dataloader()
    next(iter(loader))
    time.sleep(0.3)
    assert loader.state_dict()["batch"] == 1


def test_the_state_holds_only_ints():
    state = toy().train_dataloader().state_dict()
    assert all(type(value) is int for value in state.values())


def test_an_epoch_that_was_left_early_is_over():
    loader, whole = toy().train_dataloader(), toy().train_dataloader()
    expected = [indices(whole) for _ in range(2)]
    for batch in loader:
        assert batch["index"].tolist() == expected[0][0]
        break
    assert indices(loader) == expected[1]


def test_a_new_iteration_without_a_batch_does_not_move_the_position():
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
    loader.set_epoch(1)  # the present epoch: no effect
    assert indices(batches) == expected[1][1:]


@pytest.mark.parametrize("change", [{"seed": 9}, {"batch_size": 4}])
def test_resuming_within_an_epoch_of_another_order_is_an_error(change):
    state = toy().train_dataloader().state_dict()
    loader = toy(**change).train_dataloader()
    loader.load_state_dict({**state, "epoch": 2})  # possible at the end of an epoch
    assert loader.state_dict()["epoch"] == 2
    (key,) = change
    with pytest.raises(DataError, match=rf"batch 3 of epoch 3 in another order .*{key}"):
        loader.load_state_dict({**state, "epoch": 2, "batch": 3})
