"""Wrong options and data are errors before training."""

import json

import pytest
import torch

from mla_lightning.data.base import MultimodalDataModule, Split
from mla_lightning.errors import ConfigError, DataError


class Toy(MultimodalDataModule):
    name = "toy"
    all_modalities = ("audio", "visual", "text")
    class_names = ("cat", "dog", "eel")
    changes = {}

    def load_splits(self):
        splits = {}
        for split, number in (("train", 12), ("val", 6), ("test", 9)):
            inputs = {name: torch.ones(number, 2) for name in self.all_modalities}
            splits[split] = Split(inputs, torch.arange(number) % 3)
        return splits | self.changes


def broken(**changes):
    data = Toy(batch_size=4)
    data.changes = changes
    return data


def split_of(number, label=None, **inputs):
    base = {name: torch.ones(number, 2) for name in Toy.all_modalities}
    return Split(base | inputs, torch.arange(number) % 3 if label is None else label)


def test_correct_data_pass():
    data = Toy(batch_size=4)
    data.setup()
    splits = data.splits
    data.setup("fit")
    assert data.splits is splits  # Lightning calls setup again
    assert list(splits) == ["train", "val", "test"]
    assert data.num_classes == 3


@pytest.mark.parametrize(
    ("option", "value"),
    [("batch_size", 0), ("eval_batch_size", 0), ("num_workers", -1)],
)
def test_numbers_out_of_range_are_errors(option, value):
    with pytest.raises(ConfigError, match=rf"data\.{option} must be at least \d, got {value}"):
        Toy(**{"batch_size": 4, option: value})


def test_modalities_can_be_chosen_and_ordered():
    data = Toy(batch_size=4, modalities=["text", "audio"])
    assert data.modalities == ("text", "audio")
    batch = next(iter(data.train_dataloader()))
    assert list(batch["inputs"]) == list(batch["present"]) == ["text", "audio"]
    assert data.describe()["modalities"] == ["text", "audio"]
    assert data.all_modalities == ("audio", "visual", "text")
    assert Toy(batch_size=4).modalities == ("audio", "visual", "text")
    assert Toy(batch_size=4, modalities=["visual"]).modalities == ("visual",)


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        (["audio", "visal"], "no modality 'visal'. Did you mean 'visual'"),
        (["audio", "audio"], "each once"),
        ([], "at least one"),
    ],
)
def test_wrong_modalities_are_errors(modalities, message):
    with pytest.raises(ConfigError, match=message):
        Toy(batch_size=4, modalities=modalities)


def test_an_unknown_split_is_an_error():
    with pytest.raises(ConfigError, match=r"no split 'tset'\. Did you mean 'test'"):
        Toy(batch_size=4).loader("tset")


def test_a_class_without_training_samples_is_an_error():
    with pytest.raises(DataError, match="no training sample of class 'dog'"):
        broken(train=split_of(4, torch.tensor([0, 2, 2, 0]))).setup()


def test_a_class_may_be_absent_in_evaluation():
    broken(val=split_of(2, torch.tensor([0, 0]))).setup()


def test_an_empty_split_is_an_error():
    with pytest.raises(DataError, match="split 'val' is empty"):
        broken(val=split_of(0)).setup()


def test_a_missing_split_is_an_error():
    data = broken()
    data.load_splits = lambda: {"train": split_of(3), "valid": split_of(3)}
    with pytest.raises(DataError, match=r"no split 'val'\. Did you mean 'valid'"):
        data.setup()


def test_missing_inputs_are_an_error():
    with pytest.raises(DataError, match="split 'test': no inputs of visual, text"):
        broken(test=Split({"audio": torch.ones(3, 2)}, torch.arange(3))).setup()


def test_unequal_lengths_are_an_error():
    with pytest.raises(DataError, match="audio 6, visual 5, text 6, label 6"):
        broken(val=split_of(6, visual=torch.ones(5, 2))).setup()


@pytest.mark.parametrize("value", [-1, 3])
def test_labels_out_of_range_are_an_error(value):
    with pytest.raises(DataError, match="labels must be 0 to 2"):
        broken(test=split_of(3, torch.tensor([0, 1, value]))).setup()


def test_labels_of_another_type_are_an_error():
    with pytest.raises(DataError, match="one int64 per sample"):
        broken(test=split_of(3, torch.tensor([0.0, 1.0, 2.0]))).setup()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_inputs_that_are_not_finite_are_located(value):
    audio = torch.ones(12, 2)
    audio[7, 1] = audio[9, 0] = value
    with pytest.raises(DataError, match=r"split 'train', modality 'audio': row 7 .*2 of 12 rows"):
        broken(train=split_of(12, audio=audio)).setup()


def test_large_inputs_are_finite():
    huge = torch.full((12, 2), torch.finfo(torch.float32).max)
    broken(train=split_of(12, audio=huge)).setup()


def test_the_description_is_json_and_complete():
    description = Toy(batch_size=4).describe()
    assert json.loads(json.dumps(description)) == description
    assert description["split"] == "own"
    sizes = [description[f"num_{split}"] for split in ("train", "val", "test")]
    assert sizes == [12, 6, 9]
    assert description["class_counts"]["test"] == {"cat": 3, "dog": 3, "eel": 3}
