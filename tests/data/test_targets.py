"""Targets of regression and several labels per sample: data modules, batches, splits and stores."""

import json

import numpy as np
import pytest
import torch

from mla_lightning.batch import as_batch, check_labels
from mla_lightning.data.base import MultimodalDataModule, Split
from mla_lightning.data.manifest import read_manifest
from mla_lightning.data.prepared import Prepared
from mla_lightning.data.splits import TEST, NamedSplit
from mla_lightning.data.store import open_store, verify_store, write_store
from mla_lightning.data.synthetic import Synthetic
from mla_lightning.data.targets import TARGETS
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.prepare.embed import embed_store
from mla_lightning.prepare.import_checks import drawn_split
from mla_lightning.prepare.import_splits import fold_splits, group_split

TASKS = ("regression", "multilabel")
NAMES = {"regression": (), "multilabel": ("cat", "dog", "eel")}
NUM = 30


class Toy(MultimodalDataModule):
    name, all_modalities, class_names = "toy", ("audio",), ()

    def __init__(self, task, **labels):
        self.task, self.class_names, self.labels = task, NAMES[task], labels
        super().__init__(batch_size=4)

    def load_splits(self):
        labels = dict.fromkeys(("train", "val", "test"), label_of(self.task)) | self.labels
        return {s: Split({"audio": torch.ones(len(y), 2)}, y) for s, y in labels.items()}


def label_of(task, num=6):
    if task == "regression":
        return torch.arange(num) * 2.0 - 3
    return torch.eye(3).repeat(num // 3 + 1, 1)[:num]


def store_of(folder, task, label=None, **options):
    """Write a store of 30 samples whose rows are not in the order of their ids."""
    drawn = {
        "regression": np.arange(NUM) * 0.5 - 3,
        "multilabel": np.arange(NUM)[:, None] >> np.arange(3) & 1,
    }
    label = drawn[task] if label is None else label
    write_store(
        folder,
        name="toy",
        class_names=NAMES[task],
        ids=[f"s{(7 * n) % NUM:02d}" for n in range(NUM)],
        label=label,
        arrays={"audio": np.arange(2.0 * NUM, dtype=np.float32).reshape(NUM, 2)},
        kinds={"audio": "features"},
        splits={"own": NamedSplit(np.arange(NUM) % 3, "by number")},
        task=task,
        **options,
    )
    return drawn[task]


# ---------------------------------------------------------------------- data modules


@pytest.mark.parametrize("task", TASKS)
def test_labels_reach_batches_in_their_form(task):
    data = Toy(task)
    batch = next(iter(data.val_dataloader()))
    assert torch.equal(batch["label"], label_of(task))
    assert batch["label"].dtype == torch.float32
    assert data.num_classes == {"regression": 1, "multilabel": 3}[task]
    record = data.describe()
    assert json.loads(json.dumps(record)) == record
    assert record["task"] == task
    assert "class_counts" not in record


def test_the_record_of_a_target_and_its_scale_are_those_of_numpy():
    data = Toy("regression", train=torch.tensor([1.0, 2.0, 6.0]))
    expected = {"min": 1.0, "max": 6.0, "mean": 3.0, "sd": pytest.approx(np.std([1, 2, 6]))}
    assert data.describe()["target"]["train"] == expected
    assert data.target_scale() == (3.0, pytest.approx(np.std([1, 2, 6])))
    with pytest.raises(ConfigError, match="its task is multilabel"):
        Toy("multilabel").target_scale()


def test_the_record_of_several_labels_counts_samples():
    label = torch.tensor([[1.0, 1, 0], [1, 0, 1], [1, 0, 0]])
    counts = Toy("multilabel", train=label).describe()["label_counts"]["train"]
    assert counts == {"cat": 3, "dog": 1, "eel": 1}


@pytest.mark.parametrize(
    ("task", "split", "label", "message"),
    [
        ("regression", "train", torch.full((4,), 2.5), "target is 2.5 in all training samples"),
        ("regression", "test", torch.tensor([1.0, torch.inf]), "split 'test'.*sample 1 has inf"),
        ("regression", "val", torch.arange(3), r"tensor \(N,\) of float32.*not \(3,\) of torch.in"),
        ("multilabel", "train", torch.tensor([[1.0, 1, 0]]), "no training sample has.*'eel'"),
        ("multilabel", "val", torch.tensor([[1.0, 0.5, 0]]), "must be 0 or 1; sample 0 has 0.5"),
        ("multilabel", "val", torch.ones(2, 2), r"tensor \(N, 3\) of float32.*not \(2, 2\)"),
    ],
)
def test_wrong_labels_of_a_split_are_errors(task, split, label, message):
    with pytest.raises(DataError, match=message):
        Toy(task, **{split: label}).setup()


def test_targets_that_are_constant_in_evaluation_and_label_free_samples_are_allowed():
    Toy("regression", test=torch.ones(2)).setup()
    Toy("multilabel", test=torch.zeros(2, 3)).setup()


def test_an_unknown_task_is_an_error():
    data = Toy("regression")
    data.task = "regresion"
    with pytest.raises(DataError, match=r"'regresion'.*Did you mean 'regression'"):
        data.setup()


# ---------------------------------------------------------------------- batches


@pytest.mark.parametrize(
    ("label", "num", "task", "message"),
    [
        (torch.tensor([[0.5]]), 1, "regression", r"\(B,\) of float32, the target"),
        (torch.tensor([0.0, torch.nan]), 1, "regression", "sample 1 has nan"),
        (torch.ones(2), 3, "multilabel", r"\(B, 3\) of float32"),
        (torch.tensor([[0.0, -1.0]]), 2, "multilabel", "0 or 1; sample 0 has -1"),
    ],
)
def test_wrong_labels_of_a_plain_batch_are_errors(label, num, task, message):
    with pytest.raises(DataError, match=message):
        check_labels(label, num, task=task)


def test_unknown_labels_are_allowed_where_samples_may_have_none():
    for task, known in (("regression", torch.tensor([0.5])), ("multilabel", torch.ones(1, 2))):
        check_labels(torch.full_like(known, torch.nan), known.numel(), lowest=-1, task=task)
        check_labels(torch.tensor([-1, -1]), known.numel(), lowest=-1, task=task)


def test_plain_labels_become_the_type_of_the_task():
    inputs = {"audio": torch.zeros(2, 1)}
    whole, sets = torch.tensor([1, 4]), torch.tensor([[True, False], [True, True]])
    types = [
        as_batch(inputs | {"label": y}, ["audio"], task=task)["label"].dtype
        for task, y in (
            ("classification", whole.int()),
            ("regression", whole),
            ("multilabel", sets),
        )
    ]
    assert types == [torch.int64, torch.float32, torch.float32]


# ---------------------------------------------------------------------- splits


def test_parts_of_a_target_are_divided_evenly():
    rng = np.random.default_rng(0)
    target = np.exp(2 * rng.normal(size=400))  # heavy tail
    split = drawn_split(TARGETS["regression"].strata(target, ()))
    assert "within 10 parts of the range of the target" in split.description
    tenth = np.argsort(np.argsort(target)) // 40
    test = np.bincount(tenth[split.codes == TEST], minlength=10)
    assert test.tolist() == [8] * 10


def test_targets_of_few_values_are_divided_by_value():
    target = np.repeat([1.0, 2.0, 3.0], (20, 60, 120))
    codes = drawn_split(TARGETS["regression"].strata(target, ())).codes
    assert [int((codes[target == value] == TEST).sum()) for value in (1, 2, 3)] == [4, 12, 24]


def test_rare_labels_are_divided_evenly_too():
    rng = np.random.default_rng(0)
    label = (rng.random((1000, 12)) < np.geomspace(0.5, 0.02, 12)).astype(np.uint8)
    names = tuple(f"label {k}" for k in range(12))
    strata = TARGETS["multilabel"].strata(label, names)
    split = drawn_split(strata)
    shares = label[split.codes == TEST].sum(axis=0) / label.sum(axis=0)
    assert np.abs(shares - 0.2).max() < 0.06
    at_random = drawn_split(["same"] * 1000).codes == TEST
    drawn = label[at_random].sum(axis=0) / label.sum(axis=0)
    assert np.abs(shares - 0.2).mean() < np.abs(drawn - 0.2).mean() / 2
    folds = fold_splits(strata, None, 5)
    assert (np.stack([s.codes == TEST for s in folds.values()]).sum(axis=0) == 1).all()


def test_labels_that_groups_keep_from_train_are_named():
    label = np.zeros((40, 2), dtype=np.uint8)
    label[:, 0], label[:4, 1] = 1, 1  # the second label has one group only
    strata = TARGETS["multilabel"].strata(label, ("often", "once"))
    split = group_split(strata, [f"speaker {n // 4}" for n in range(40)])
    assert "has no sample of once" in split.description
    assert split.group == "group"


# ---------------------------------------------------------------------- stores


@pytest.mark.parametrize("task", TASKS)
def test_a_store_keeps_its_targets(tmp_path, task):
    label = store_of(tmp_path / "toy", task)
    store = open_store(tmp_path / "toy")
    assert (store.task, store.is_labelled, len(store)) == (task, True, NUM)
    assert store.label.dtype == {"regression": np.float64, "multilabel": np.uint8}[task]
    row_of = {f"s{(7 * n) % NUM:02d}": n for n in range(NUM)}
    assert (store.label == label[[row_of[name] for name in store.ids]]).all()
    assert verify_store(store.folder) == []
    data = Prepared(path=store.folder, batch_size=8)
    batch = next(iter(data.test_dataloader()))
    rows = [row_of[name] for name in data.sample_names("test", batch["index"].tolist())]
    assert torch.equal(batch["label"], torch.from_numpy(label[rows]).float())
    assert data.everything().label.dtype == torch.float32
    manifest = tmp_path / "toy" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"{task}"', '"ranking"'))
    with pytest.raises(DataError, match="task 'ranking', which this version"):
        read_manifest(tmp_path / "toy")


@pytest.mark.parametrize(
    ("task", "label", "message"),
    [
        ("regression", np.where(np.arange(NUM) == 3, np.inf, 0.0), "finite numbers.*has inf"),
        ("regression", np.full(NUM, 1e39), "finite numbers of float32"),
        ("regression", np.zeros((NUM, 2)), r"\(N,\) of float64"),
        ("multilabel", np.full((NUM, 3), 2), "labels must be 0 or 1"),
        ("multilabel", np.zeros((NUM, 2)), r"\(N, 3\) of uint8"),
    ],
)
def test_a_store_with_wrong_targets_is_not_written(tmp_path, task, label, message):
    with pytest.raises(DataError, match=message):
        store_of(tmp_path / "toy", task, label)
    assert not (tmp_path / "toy").exists()


def test_stores_of_other_tasks_have_other_fingerprints_and_classes_none_in_the_manifest(tmp_path):
    for task in TASKS:
        store_of(tmp_path / task, task)
    assert len({open_store(tmp_path / task).fingerprint for task in TASKS}) == 2
    write_store(
        tmp_path / "classes",
        name="toy",
        class_names=("a", "b"),
        ids=["x", "y", "z"],
        label=[0, 1, 0],
        arrays={"audio": np.zeros((3, 2), np.float32)},
        kinds={"audio": "features"},
        splits={"own": NamedSplit(np.arange(3), "by number")},
    )
    assert "task" not in read_manifest(tmp_path / "classes")


@pytest.mark.parametrize("task", TASKS)
def test_embedded_features_keep_the_targets(tmp_path, task):
    store_of(tmp_path / "toy", task)
    encoder = torch.nn.Linear(2, 5)
    encoder.out_features = 5
    data = Prepared(path=tmp_path / "toy", batch_size=8)
    store = open_store(embed_store(data, tmp_path / "embedded", {"audio": encoder}))
    assert store.task == task
    assert (store.label == data.store.label).all()


# ---------------------------------------------------------------------- synthetic data


def test_synthetic_targets_are_linear_in_the_features_and_one_modality_is_easier():
    data = Synthetic(batch_size=8, task="regression", num_train=4000)
    data.setup()
    train = data.splits["train"]
    mean, sd = data.target_scale()
    assert (mean, sd) == (pytest.approx(5, abs=0.1), pytest.approx(2, abs=0.1))
    residuals = []
    for name, signal in (("a", 3.0), ("b", 1.5)):
        x = torch.cat([train.inputs[name], torch.ones(len(train), 1)], dim=1).double()
        y = train.label.double()
        fit = x @ torch.linalg.lstsq(x, y[:, None]).solution
        residuals.append(float((y - fit[:, 0]).var() / y.var()))
        assert 0 < residuals[-1] < 3 / (1 + signal**2)  # means have a length of about 1
    assert residuals[0] < residuals[1]


def test_synthetic_labels_have_the_frequencies_they_say_and_classes_do_not_change():
    data = Synthetic(batch_size=8, task="multilabel", num_classes=5)
    counts = data.describe()["label_counts"]["train"]
    assert [*counts.values()] == [64, 96, 128, 160, 192]  # 0.2 to 0.6 of 320
    assert Synthetic(batch_size=8, task="classification").fingerprint == (
        Synthetic(batch_size=8).fingerprint
    )
    prints = {Synthetic(batch_size=8, task=task).fingerprint for task in (None, *TASKS)}
    assert len(prints) == 3
    with pytest.raises(ConfigError, match="Did you mean 'multilabel'"):
        Synthetic(batch_size=8, task="multilable")
