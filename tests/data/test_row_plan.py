"""Plans of rows: copies of samples, modalities alone, their order, and loaders that follow them."""

import pytest
import torch

from mla_lightning.data.base import MultimodalDataModule, Split
from mla_lightning.data.loading import ArrayDataset, HiddenModalities, TrainLoader, loader_options
from mla_lightning.data.order import Request, TrainOrder
from mla_lightning.data.row_plan import RowPlan
from mla_lightning.errors import DataError
from mla_lightning.inputs.base import BatchRandomness

NUM, BATCH = 23, 5
PLAIN = torch.tensor([[1, 0, 0]]).repeat(NUM, 1)


def some_counts(seed=0, num=NUM, kinds=3, most=3):
    return torch.randint(most + 1, (num, kinds), generator=torch.Generator().manual_seed(seed))


class Noisy(MultimodalDataModule):
    name = "noisy"
    all_modalities = ("audio", "visual")
    class_names = ("even", "odd")

    def load_splits(self):
        rows = torch.arange(NUM)
        inputs = {"audio": rows[:, None].float(), "visual": 100 + rows[:, None].float()}
        return dict.fromkeys(("train", "val", "test"), Split(inputs, rows % 2))

    def transform(self, inputs, generator):
        return {**inputs, "audio": inputs["audio"] + torch.rand(1, generator=generator)}


def loader(num_workers=0):
    return Noisy(batch_size=BATCH, seed=3, num_workers=num_workers).train_dataloader()


def equal(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    return torch.equal(one, other)


def epochs_equal(one, other):
    return len(one) == len(other) and all(map(equal, one, other))


def kinds_of(batch):
    """Return the sample, the only modality (-1: all) and the copy of each row of a batch."""
    audio, visual = batch["present"]["audio"], batch["present"]["visual"]
    alone = torch.where(audio & visual, -1, torch.where(audio, 0, 1))
    return list(zip(batch["index"].tolist(), alone.tolist(), batch["copy"].tolist(), strict=True))


@pytest.mark.parametrize("order", ["rows", "blocks", "mixed"])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
@pytest.mark.parametrize("kinds", [3, 4])
def test_an_epoch_has_every_row_once(order, batch_size, kinds):
    counts = some_counts(kinds=kinds)
    plan = RowPlan(counts, order)
    batches = plan.batches(seed=0, epoch=2, batch_size=batch_size)
    assert len(batches) == plan.num_batches(batch_size)
    assert sorted(torch.cat(batches).tolist()) == list(range(int(counts.sum())))
    found = torch.zeros_like(counts)
    for sample, alone in zip(plan.sample.tolist(), plan.alone.tolist(), strict=True):
        found[sample, 1 + alone] += 1
    assert torch.equal(found, counts)
    for sample in range(NUM):
        copies = plan.copy[plan.sample == sample].tolist()
        assert copies == list(range(len(copies)))
    sizes = [len(batch) for batch in batches]
    assert all(1 < size <= batch_size + 1 for size in sizes) or batch_size == 1
    if order == "rows":
        assert set(sizes[:-1]) <= {batch_size}
    else:
        assert all(len(set(plan.alone[batch].tolist())) == 1 for batch in batches)


def test_blocks_go_from_the_last_modality_to_whole_rows():
    plan = RowPlan(torch.tensor([[1, 1, 2]]).repeat(6, 1), "blocks")
    batches = plan.batches(seed=0, epoch=0, batch_size=4)
    assert [plan.alone[batch][0].item() for batch in batches] == [1, 1, 1, 0, 0, -1, -1]
    mixed = RowPlan(torch.tensor([[1, 1, 2]]).repeat(6, 1), "mixed")
    shuffled = mixed.batches(seed=0, epoch=0, batch_size=4)
    assert sorted(b.tolist() for b in shuffled) == sorted(b.tolist() for b in batches)
    assert [b.tolist() for b in shuffled] != [b.tolist() for b in batches]
    other = [b.tolist() for b in mixed.batches(seed=0, epoch=1, batch_size=4)]
    assert other != [b.tolist() for b in shuffled]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0, 9, 0], [4, 5]),
        ([0, 1, 8], [4, 5]),
        ([0, 8, 1], [5, 4]),
        ([1, 1, 0], [2]),
        ([0, 1, 0], [1]),
    ],
)
def test_no_row_is_alone_in_its_batch_if_that_is_possible(numbers, expected):
    counts = torch.zeros(sum(numbers), 3, dtype=torch.uint8)
    counts[torch.arange(len(counts)), torch.arange(3).repeat_interleave(torch.tensor(numbers))] = 1
    plan = RowPlan(counts, "blocks")
    batches = plan.batches(seed=0, epoch=0, batch_size=4)
    assert [len(batch) for batch in batches] == expected
    assert plan.num_batches(4) == len(expected)


def test_the_batches_depend_on_seed_epoch_and_counts_alone():
    plan, again = RowPlan(some_counts()), RowPlan(some_counts().to(torch.uint8))
    place = {"seed": 1, "epoch": 4, "batch_size": BATCH}
    first = torch.cat(plan.batches(**place))
    assert torch.equal(torch.cat(again.batches(**place)), first)
    assert not torch.equal(torch.cat(plan.batches(**place | {"epoch": 5})), first)
    assert not torch.equal(torch.cat(plan.batches(**place | {"seed": 2})), first)


def test_a_plan_of_whole_samples_is_no_plan():
    plain, following = loader(), loader()
    following.follow(PLAIN)
    for _ in range(2):
        assert epochs_equal(list(plain), list(following))
    assert "copy" not in next(iter(following))


def test_copies_of_whole_samples_are_augmented_anew():
    usual, following = loader(), loader()
    following.follow(2 * PLAIN)
    value = {
        i: x for b in usual for i, x in zip(b["index"].tolist(), b["inputs"]["audio"], strict=True)
    }
    seen = {}
    for batch in following:
        for (sample, alone, copy), x in zip(
            kinds_of(batch), batch["inputs"]["audio"][:, 0], strict=True
        ):
            assert alone == -1
            seen[sample, copy] = float(x)
    assert len(seen) == 2 * NUM == len(set(seen.values()))
    assert all(seen[i, 0] == float(x) for i, x in value.items())


def test_augmentation_on_the_device_depends_on_the_copy():
    index, copy = torch.tensor([3, 3, 3, 7]), torch.tensor([0, 1, 2, 0])
    place = {"seed": 0, "epoch": 1, "modality": "audio"}
    usual = BatchRandomness(**place, index=index).uniform("crop", 4)
    copies = BatchRandomness(**place, index=index, copy=copy).uniform("crop", 4)
    assert torch.equal(copies[[0, 3]], usual[[0, 3]])
    assert len({*copies.flatten().tolist()}) == 16
    many = BatchRandomness(**place, index=torch.arange(4000) // 8, copy=torch.arange(4000) % 8)
    drawn = many.uniform("crop", 2)
    assert abs(float(drawn.mean()) - 0.5) < 0.01
    assert len(drawn[:, 0].unique()) > 3990


def test_a_row_of_one_modality_has_no_other_but_keeps_the_inputs():
    following = loader()
    following.follow(some_counts())
    rows = []
    for batch in following:
        rows += kinds_of(batch)
        for name in ("audio", "visual"):
            assert torch.equal(batch["left_out"][name], ~batch["present"][name])
        assert torch.equal(batch["inputs"]["visual"][:, 0], 100.0 + batch["index"])
        assert torch.equal(batch["label"], batch["index"] % 2)
    plan = RowPlan(some_counts())
    expected = zip(plan.sample.tolist(), plan.alone.tolist(), plan.copy.tolist(), strict=True)
    assert sorted(rows) == sorted(expected)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("order", ["rows", "mixed"])
def test_a_loader_resumes_within_an_epoch_of_another_length(num_workers, order):
    whole = loader()
    whole.follow(some_counts(), order)
    epochs = [list(whole), list(whole)]
    assert len(epochs[0]) == len(whole) != len(loader())
    stopped = loader(num_workers)
    stopped.follow(some_counts(), order)
    assert epochs_equal(list(stopped), epochs[0])
    iterator = iter(stopped)
    begun = [next(iterator) for _ in range(3)]
    resumed = loader(num_workers)
    resumed.load_state_dict(stopped.state_dict())
    resumed.follow(some_counts(), order)
    assert epochs_equal(begun + list(resumed), epochs[1])
    resumed.follow(PLAIN)
    usual = loader()
    usual.set_epoch(2)
    assert epochs_equal(list(resumed), list(usual))


def test_a_batch_of_a_request_names_the_rows_of_other_ranks(monkeypatch):
    order = TrainOrder(NUM, BATCH, seed=0)
    order.plan = RowPlan(some_counts())
    whole, data = list(order), loader().dataset
    for rank in range(2):
        monkeypatch.setattr(
            "mla_lightning.ranks.part_of", lambda rows, rank=rank: rows.tensor_split(2)[rank]
        )
        for part, request in zip(order, whole, strict=True):
            assert torch.equal(part.batch, request.indices)
            assert torch.equal(part.kinds.alone_in_batch, request.kinds.alone)
            assert torch.equal(part.indices, request.indices.tensor_split(2)[rank])
            assert equal(data[part]["present_in_batch"], data[request]["present"])


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(DataError, match=r"no order of rows\. Did you mean 'blocks'"):
        RowPlan(PLAIN, "block")
    with pytest.raises(DataError, match="at least one row"):
        loader().follow(0 * PLAIN)
    with pytest.raises(DataError, match=r"has counts \(23, 3\), not \(22, 3\)"):
        loader().follow(PLAIN[1:])
    inputs = {name: torch.zeros(4, 1) for name in ("audio", "visual")}
    label, counts = torch.arange(4) % 2, torch.tensor([[1, 0, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]])
    present = {"visual": torch.tensor([False, True, True, True])}
    hidden = HiddenModalities(lambda epoch: torch.ones(4, 2, dtype=torch.bool))
    for options in ({"present": present}, {"hidden": hidden}):
        dataset = ArrayDataset(inputs, label, **options)
        loading = TrainLoader(dataset, sampler=TrainOrder(4, 2, seed=0), **loader_options(0))
        with pytest.raises(DataError, match="alone need samples that have it, and some lack it"):
            loading.follow(counts)
        loading.follow(counts * torch.tensor([1, 0, 0]))
    assert dataset[Request(0, torch.arange(2))]["present"]["audio"].all()
