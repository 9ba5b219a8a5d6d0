"""data.held_out: a part of the training split that is never trained on."""

import numpy as np
import pytest
import torch

from mla_lightning.config import compose_jobs
from mla_lightning.data.base import MultimodalDataModule, Split
from mla_lightning.data.missing import Missing
from mla_lightning.data.openmoji import FILE, OpenMoji, read_arrays
from mla_lightning.data.prepared import Prepared
from mla_lightning.data.splits import NamedSplit, grouped
from mla_lightning.data.store import write_store
from mla_lightning.data.synthetic import Synthetic
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.identity import identity_of


def synthetic(**options):
    return Synthetic(batch_size=16, num_train=200, names=["audio", "visual"], **options)


def inputs_of(data, split):
    """All inputs of a split as rows, in its order."""
    batches = list(data.loader(split))
    return torch.cat([torch.cat([*b["inputs"].values()], dim=1) for b in batches])


def rows(x):
    return {tuple(row) for row in x.tolist()}


def test_each_class_is_divided_and_every_sample_is_in_one_part():
    whole, data = synthetic(), synthetic(held_out=0.1)
    whole.setup()
    data.setup()
    counts = data.describe()["class_counts"]
    assert set(counts["train"].values()) == {45}
    assert set(counts["held_out"].values()) == {5}
    train, held_out = inputs_of(data, "train"), inputs_of(data, "held_out")
    assert rows(train) | rows(held_out) == rows(inputs_of(whole, "train"))
    assert not rows(train) & rows(held_out)
    for split in ("val", "test"):
        assert torch.equal(inputs_of(data, split), inputs_of(whole, split))
    trained_on = list(data.train_dataloader())
    assert rows(torch.cat([torch.cat([*b["inputs"].values()], 1) for b in trained_on])) == rows(
        train
    )
    assert sorted(torch.cat([b["index"] for b in trained_on]).tolist()) == list(range(180))


def test_the_part_depends_on_the_data_alone():
    first, *others = (
        synthetic(held_out=0.1, **options)
        for options in ({}, {"seed": 7}, {"modalities": ["audio", "visual"], "eval_batch_size": 9})
    )
    for other in others:
        assert torch.equal(inputs_of(first, "held_out"), inputs_of(other, "held_out"))
    other_data = synthetic(held_out=0.1, data_seed=1)
    assert not rows(inputs_of(first, "held_out")) & rows(inputs_of(other_data, "held_out"))


def test_the_record_counts_both_parts():
    data = synthetic(held_out=0.2)
    assert data.num_train is None  # not known before the data are drawn
    description = data.describe()
    assert (description["num_train"], description["num_held_out"]) == (160, 40)
    assert data.num_train == 160
    assert "num_held_out" not in synthetic().describe()


def test_groups_of_openmoji_stay_together():
    data = OpenMoji(batch_size=8, held_out=0.1)
    arrays = read_arrays(FILE)
    group = arrays["group"][arrays["split"] == 0]
    held_out, train = data.loader("held_out").dataset.rows, data.loader("train").dataset.rows
    assert not set(group[held_out]) & set(group[train])
    assert 90 <= len(held_out) <= 105
    counts = data.describe()["class_counts"]["held_out"]
    assert min(counts.values()) >= 4


class Toy(MultimodalDataModule):
    name, all_modalities, fingerprint = "toy", ("audio", "visual"), "made up"
    class_names = ("cat", "dog")

    def __init__(self, label, groups=None, task="classification", **options):
        self.label, self.groups, self.task = label, groups, task
        if task == "regression":
            self.class_names = ()
        super().__init__(batch_size=4, **options)

    def load_splits(self):
        n = len(self.label)
        x = {m: torch.arange(n * 2.0).view(n, 2) for m in self.all_modalities}
        return dict.fromkeys(("train", "val", "test"), Split(x, self.label, groups=self.groups))


def test_groups_of_ones_own_data_stay_together_and_an_empty_name_is_a_group_alone():
    groups = [f"speaker {n // 5}" for n in range(20)] + [""] * 80
    data = Toy(torch.arange(100) % 2, groups, held_out=0.5)
    held_out = inputs_of(data, "held_out")[:, 0].long() // 2
    names = np.array(groups)[held_out]
    assert all((names == name).sum() == 5 for name in set(names) - {""})
    assert 0 < (names == "").sum() < 80
    with pytest.raises(DataError, match="groups 3"):
        Toy(torch.arange(4) % 2, ["a"] * 3).setup()


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_other_tasks_are_divided_too(task):
    data = synthetic(held_out=0.1, task=task, num_classes=3)
    assert len(data.loader("held_out").dataset) == pytest.approx(20, abs=2)
    labels = [data.loader(split).dataset.label for split in ("train", "held_out")]
    torch.testing.assert_close(labels[1].mean(dim=0), labels[0].mean(dim=0), atol=0.35, rtol=0)
    assert data.target_scale() if task == "regression" else True


@pytest.mark.parametrize(("policy", "resamples"), [("drop", False), ("zero_input", True)])
def test_what_is_hidden_of_a_sample_is_the_same_in_either_part(policy, resamples):
    missing = Missing(0.3, policy=policy, resample_train_masks=resamples)
    whole, data = (synthetic(missing=missing, held_out=part) for part in (0, 0.2))
    for one in (whole, data):
        one.setup()
    assert torch.equal(whole.masks["train"], data.masks["train"])
    number_of = {tuple(x): n for n, x in enumerate(whole.splits["train"].inputs["audio"].tolist())}
    for split in ("train", "held_out"):
        dataset = data.splits[split]
        numbers = [number_of[tuple(dataset.inputs["audio"][row].tolist())] for row in dataset.rows]
        for epoch in (0, 1):
            expected = whole.splits["train"].hidden.mask(epoch)[numbers]
            assert torch.equal(dataset.hidden.mask(epoch), expected)
    held_out = next(iter(data.loader("held_out")))
    mask = data.splits["held_out"].hidden.mask(0)
    assert torch.equal(held_out["hidden"]["audio"], ~mask[:, 0])
    assert not held_out["inputs"]["audio"][~mask[:, 0]].any()
    data.keep_truth()
    assert "truth" in next(iter(data.train_dataloader()))
    assert "truth" not in next(iter(data.loader("held_out")))


def write(folder, groups=None):
    rng = np.random.default_rng(0)
    label = np.arange(120) % 3
    speakers = [f"s{n // 4:02d}" for n in range(120)]
    codes = grouped([str(v) for v in label], speakers, (0.7, 0.1, 0.2), 0)
    write_store(
        folder,
        name="toy",
        class_names=("a", "b", "c"),
        ids=[f"{n:03d}" for n in range(120)],
        label=label,
        arrays={m: rng.normal(3, 2, (120, 4)).astype(np.float32) for m in ("audio", "visual")},
        kinds={"audio": "features", "visual": "features"},
        splits={"own": NamedSplit(codes, "Whole speakers.", group=groups)},
        attributes={"speaker": speakers},
    )
    return speakers


def test_groups_of_a_store_stay_together_and_its_numbers_are_known_before_it_is_read(tmp_path):
    speakers = np.array(write(tmp_path / "store", groups="speaker"))
    data = Prepared(path=tmp_path / "store", batch_size=8, held_out=0.2, scale="standard")
    num_train, scaled = data.num_train, data.inputs["audio"]
    data.setup()
    train, held_out = (data.splits[split].rows for split in ("train", "held_out"))
    assert len(train) == num_train == data.describe()["num_train"]
    assert len(train) + len(held_out) == int((data.store.split("own") == 0).sum())
    assert not set(speakers[train]) & set(speakers[held_out])
    x = torch.tensor(np.asarray(data.store.array("audio").index_select(0, train)))
    torch.testing.assert_close(scaled(x, None).mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    plain = Prepared(path=tmp_path / "store", batch_size=8, scale="standard").inputs["audio"]
    assert not torch.equal(plain(x, None), scaled(x, None))


def test_names_of_samples_are_those_of_the_whole_split(tmp_path):
    write(tmp_path / "store", groups="speaker")
    data = Prepared(path=tmp_path / "store", batch_size=8, held_out=0.2)
    names = data.names_of("train"), data.names_of("held_out")
    for of_part, split in zip(names, ("train", "held_out"), strict=True):
        assert of_part == [data.store.ids[row] for row in data.splits[split].rows.tolist()]
    whole = Prepared(path=tmp_path / "store", batch_size=8).names_of("train")
    assert sorted([*names[0], *names[1]]) == whole
    assert data.names_of("val") == data.sample_names("val", range(len(data.splits["val"])))


def test_samples_without_groups_are_divided_one_by_one(tmp_path):
    speakers = np.array(write(tmp_path / "store"))
    data = Prepared(path=tmp_path / "store", batch_size=8, held_out=0.2)
    data.setup()
    train, held_out = (data.splits[split].rows for split in ("train", "held_out"))
    assert set(speakers[train]) & set(speakers[held_out])


@pytest.mark.parametrize("value", [-0.1, 0.95, float("nan")])
def test_a_fraction_is_below_1(value):
    with pytest.raises(ConfigError, match=r"data\.held_out must be at"):
        synthetic(held_out=value)


def test_a_part_that_would_be_empty_is_an_error():
    with pytest.raises(DataError, match=r"can be held out without.*data\.held_out=0\.2"):
        Toy(torch.arange(2), held_out=0.1).setup()
    with pytest.raises(DataError, match="groups cannot be divided"):
        Toy(torch.arange(8) % 2, ["a"] * 8, held_out=0.1).setup()


def test_the_samples_to_train_on_have_every_class():
    for seed in range(20):
        order = torch.randperm(21, generator=torch.Generator().manual_seed(seed))
        label = torch.tensor([0] * 20 + [1])[order]
        data = Toy(label, held_out=0.3)
        data.setup()
        assert data.describe()["class_counts"]["train"]["dog"] == 1
        assert data.describe()["num_held_out"] >= 5


def test_without_it_there_is_no_such_split():
    with pytest.raises(ConfigError, match="no split 'held_out'"):
        synthetic().loader("held_out")


def test_the_identity_of_a_run_changes_with_it_and_not_with_0():
    config = {"data": {"_target_": "x"}}
    zero, tenth = ({"data": {"_target_": "x", "held_out": v}} for v in (0, 0.1))
    assert identity_of(config, "d") == identity_of(zero, "d") != identity_of(tenth, "d")


def test_a_method_that_needs_it_says_so_before_anything_starts():
    words = ["data=synthetic", "method=relearning"]
    assert compose_jobs(words)[0].config.data["held_out"] == 0.1
    with pytest.raises(ConfigError, match=r"Relearning needs .* Set data\.held_out=0\.1"):
        compose_jobs([*words, "data.held_out=0"])
    (job,) = compose_jobs(["data=synthetic", "method=concat", "data.held_out=0.1"])
    assert job.config.data["held_out"] == 0.1  # for a comparison with equal training data
