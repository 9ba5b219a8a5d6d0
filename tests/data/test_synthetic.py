"""Synthetic data for tests and demonstrations."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from mla_lightning.data.synthetic import Synthetic
from mla_lightning.encoders.mlp import MLP
from mla_lightning.errors import ConfigError


def synthetic(**options):
    return Synthetic(**{"batch_size": 32, **options})


def test_sizes_names_and_classes():
    data = synthetic(
        num_modalities=3, num_classes=5, num_train=20, num_val=10, num_test=15, num_features=7
    )
    assert data.modalities == ("a", "b", "c")
    assert data.num_classes == 5
    description = data.describe()
    sizes = [description[f"num_{split}"] for split in ("train", "val", "test")]
    assert sizes == [20, 10, 15]
    assert set(description["class_counts"]["train"].values()) == {4}
    assert data.splits["val"].inputs["c"].shape == (10, 7)
    assert synthetic().modalities == ("a", "b")
    assert synthetic(names=["audio", "visual"]).modalities == ("audio", "visual")


def test_the_data_depend_only_on_their_seed():
    first, other_run = synthetic(seed=0), synthetic(seed=1)
    other_data = synthetic(data_seed=1)
    for data in (first, other_run, other_data):
        data.setup()
    for split, dataset in first.splits.items():
        for name, values in dataset.inputs.items():
            assert torch.equal(values, other_run.splits[split].inputs[name])
            assert not torch.equal(values, other_data.splits[split].inputs[name])
        assert torch.equal(dataset.label, other_run.splits[split].label)


def test_a_modality_does_not_depend_on_the_others_in_use():
    alone, both = synthetic(modalities=["b"]), synthetic()
    alone.setup(), both.setup()
    assert torch.equal(alone.splits["train"].inputs["b"], both.splits["train"].inputs["b"])


def test_the_fingerprint_depends_only_on_the_data():
    base = synthetic().fingerprint
    assert len(base) == 64
    assert synthetic(seed=5, batch_size=1, num_workers=2).fingerprint == base
    changes = (
        {"data_seed": 1},
        {"num_train": 400},
        {"num_features": 3},
        {"num_classes": 3},
        {"signal": 1.0},
        {"names": ["x", "y"]},
    )
    assert len({base, *(synthetic(**change).fingerprint for change in changes)}) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train": 3}, "num_train must be at least 4, got 3"),
        ({"num_classes": 1}, "num_classes must be at least 2"),
        ({"num_val": 0}, "num_val must be at least 1"),
        ({"num_features": 0}, "num_features must be at least 1"),
        ({"names": ["a", "b"], "num_modalities": 3}, "give one of them"),
        ({"names": ["a", "a"]}, "each once"),
        ({"names": []}, "at least one name"),
        ({"num_modalities": 0}, "1 to 26"),
        ({"num_modalities": 27}, "1 to 26"),
        ({"signal": [1.0, 2.0, 3.0]}, "3 numbers for 2 modalities"),
    ],
)
def test_wrong_options_are_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        synthetic(**options)


def accuracy(data, name):
    """Return the test accuracy of a perceptron after a few epochs on one modality."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(MLP(16, hidden=32, out_features=16), torch.nn.Linear(16, 4))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    loader = data.train_dataloader()
    for _ in range(8):
        for batch in loader:
            optimizer.zero_grad()
            cross_entropy(net(batch["inputs"][name]), batch["label"]).backward()
            optimizer.step()
    test = data.splits["test"]
    return (net(test.inputs[name]).argmax(1) == test.label).float().mean().item()


def test_classes_can_be_learnt_and_one_modality_is_easier():
    data = synthetic()
    easy, hard = accuracy(data, "a"), accuracy(data, "b")
    assert easy > 0.85
    assert 0.4 < hard < easy - 0.1
    assert accuracy(synthetic(signal=0.0), "a") < 0.4
