"""The packaged data: complete, undamaged, and no test sample in training."""

import re
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from mla_lightning.data import openmoji
from mla_lightning.data.openmoji import DIGEST, FILE, OpenMoji, array_digest, read_arrays
from mla_lightning.errors import DataError
from mla_lightning.media.tokens import token_ids

#: Words that differ between the names of variants; intentionally independent of the recipe.
VARIANT = re.compile(
    r"\b((wo)?m[ae]n|person|people|(boy|girl|child|adult)s?|male|female|mrs|mx|santa|old|older)\b"
    r"|\b(red|curly|white|blond) hair\b|\b(bald|beard)\b|\b(light|dark|medium) skin tone\b"
    r"|\b(facing|pointing|tilted|left|right|up|down|upwards|downwards|leftwards|rightwards)\b"
    r"|\b(and|clockwise|counterclockwise)\b"
)


@pytest.fixture(scope="module")
def arrays():
    return read_arrays()


@pytest.fixture(scope="module")
def data():
    module = OpenMoji(batch_size=32)
    module.setup()
    return module


def splits_of(arrays, keys):
    """Return the splits in which each key occurs."""
    splits = {}
    for key, split in zip(keys, arrays["split"].tolist(), strict=True):
        splits.setdefault(key, set()).add(split)
    return splits


def without_variant(name):
    words = VARIANT.sub(" ", name.lower().replace("’s", "").replace("-", " "))
    return " ".join(sorted(words.split()))


def test_numbers_of_samples(arrays, data):
    assert np.bincount(arrays["split"]).tolist() == [977, 163, 489]
    description = data.describe()
    sizes = [description[f"num_{split}"] for split in ("train", "val", "test")]
    assert sizes == [977, 163, 489]
    assert (data.num_classes, len(data.class_names)) == (8, 8)
    fractions = [
        np.bincount(arrays["label"][arrays["split"] == code], minlength=8) / size
        for code, size in enumerate(sizes)
    ]
    assert np.abs(fractions[0] - fractions[1]).max() < 0.01
    assert np.abs(fractions[0] - fractions[2]).max() < 0.01


def test_a_group_is_in_one_split(arrays):
    assert all(len(s) == 1 for s in splits_of(arrays, arrays["group"].tolist()).values())
    assert len(set(arrays["group"].tolist())) == 1328


def test_no_name_occurs_in_two_splits(arrays):
    names = arrays["name"].tolist()
    assert len(set(names)) == len(names)
    keys = [without_variant(name) for name in names]
    assert len(set(keys)) < len(names) - 200  # there are variants
    assert not {key for key, splits in splits_of(arrays, keys).items() if len(splits) > 1}


def test_no_image_or_mirror_image_occurs_in_two_splits(arrays):
    splits = splits_of(arrays, [image.tobytes() for image in arrays["image"]])
    for images in (arrays["image"], arrays["image"][:, :, ::-1]):
        other_splits = splits_of(arrays, [image.tobytes() for image in images])
        for image in splits.keys() & other_splits.keys():
            assert len(splits[image] | other_splits[image]) == 1


def test_no_two_splits_share_a_nearly_equal_image(arrays):
    pixels = arrays["image"].reshape(len(arrays["image"]), -1).astype(np.float64)
    squares = (pixels**2).sum(1)
    distances = squares[:, None] + squares[None] - 2 * pixels @ pixels.T
    close = np.argwhere(np.triu(distances < 5.0**2 * pixels.shape[1], k=1))
    assert len(close) > 30
    assert all(arrays["split"][row] == arrays["split"][other] for row, other in close)


def test_clock_faces_are_in_one_split(arrays):
    clocks = [bool(re.search("o’clock|-thirty", name)) for name in arrays["name"].tolist()]
    assert sum(clocks) == 24
    assert len(set(arrays["split"][clocks].tolist())) == 1


def test_there_are_no_flags_and_no_blank_images(arrays):
    flags = [name for name in arrays["name"].tolist() if name.startswith("flag ")]
    assert flags == ["flag in hole"]  # golf, not a country
    assert (arrays["image"] < 250).any(axis=(1, 2, 3)).all()


def test_tensors_equal_the_arrays(arrays, data):
    for code, split in enumerate(("train", "val", "test")):
        rows = np.flatnonzero(arrays["split"] == code)
        inputs = data.splits[split].inputs
        assert inputs["image"].shape == (len(rows), 3, 32, 32)
        assert inputs["image"].dtype == torch.float32
        assert inputs["image"].min() >= 0
        assert inputs["image"].max() <= 1
        row = rows[3]
        expected = 1 - arrays["image"][row].transpose(2, 0, 1) / np.float32(255)
        assert np.allclose(inputs["image"][3].numpy(), expected, atol=1e-6)
        assert inputs["text"].dtype == torch.int64
        assert 0 < inputs["text"].max() < 4096
        assert (inputs["text"] > 0).any(dim=1).all()
        assert data.splits[split].label.tolist() == arrays["label"][rows].tolist()


def test_the_text_is_only_the_name(arrays, data):
    rows = np.flatnonzero(arrays["split"] == 0)
    ids = data.splits["train"].inputs["text"]
    expected = token_ids(arrays["name"][rows].tolist(), 4096, length=ids.shape[1])
    assert torch.equal(ids, expected)


def test_setup_is_fast():
    seconds = []
    for _ in range(3):
        start = time.process_time()
        OpenMoji(batch_size=32).setup()
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.2


def test_the_fingerprint_does_not_read_the_file(monkeypatch):
    monkeypatch.setattr(openmoji, "FILE", Path("nowhere"))
    assert OpenMoji(batch_size=32).fingerprint == DIGEST


def test_the_digest_is_that_of_the_file(arrays):
    assert array_digest(arrays) == DIGEST
    assert len(DIGEST) == 64
    changed = {**arrays, "label": arrays["label"].copy()}
    changed["label"][0] ^= 1
    assert array_digest(changed) != DIGEST
    assert array_digest({**arrays, "label": arrays["label"].astype(np.int16)}) != DIGEST


def written(path, content):
    path.write_bytes(content)
    return path


def test_damaged_files_are_errors(tmp_path, arrays):
    whole = FILE.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for number, content in enumerate(
        (b"", b"no archive", whole[: len(whole) // 2], whole[:-1], bytes(flipped))
    ):
        with pytest.raises(DataError, match="mla data prepare openmoji"):
            read_arrays(written(tmp_path / f"{number}.npz", content))
    with pytest.raises(DataError, match="is missing"):
        read_arrays(tmp_path / "none.npz")
    other = tmp_path / "other.npz"
    np.savez(other, **{**arrays, "split": np.zeros_like(arrays["split"])})
    with pytest.raises(DataError, match="other data"):
        read_arrays(other)


def test_no_pickle_is_ever_loaded(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, name=np.array(["a", None], dtype=object))
    with pytest.raises(DataError, match="broken"):
        read_arrays(path)


def test_the_licence_is_beside_the_data():
    text = FILE.with_name("openmoji-LICENSE.txt").read_text(encoding="utf-8")
    for phrase in ("OpenMoji", "CC BY-SA 4.0", "creativecommons.org/licenses/by-sa/4.0", FILE.name):
        assert phrase in text
    assert FILE.stat().st_size < 2_000_000


def test_training_batches_follow_the_seed():
    orders = [
        torch.cat([b["index"] for b in OpenMoji(batch_size=32, seed=s).train_dataloader()]).tolist()
        for s in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert all(a != b for a, b in pairwise(sorted(orders[0])))
