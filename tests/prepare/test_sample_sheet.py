"""Sheets of samples: of every class of a store, and of chosen samples of a split."""

import numpy as np
import pytest
from PIL import Image

from mla_lightning.data.prepared import Prepared
from mla_lightning.data.splits import NamedSplit, stratified
from mla_lightning.data.store import write_store
from mla_lightning.errors import ConfigError
from mla_lightning.prepare.sample_sheet import class_sheet, sample_sheet

NUM = 24


@pytest.fixture
def store(tmp_path):
    """Write a store with a modality of each kind; the text of the first sample is absent."""
    rng = np.random.default_rng(0)
    label = np.arange(NUM) % 2
    write_store(
        tmp_path / "store",
        name="toy",
        class_names=("a", "b"),
        ids=[f"s{n:02d}" for n in range(NUM)],
        label=label,
        arrays={
            "image": rng.integers(0, 256, (NUM, 3, 8, 8), dtype=np.uint8),
            "visual": rng.integers(0, 256, (NUM, 9, 3, 8, 8), dtype=np.uint8),
            "audio": rng.normal(size=(NUM, 16, 8)).astype(np.float16),
            "text": rng.integers(1, 9, (NUM, 4)),
            "vector": rng.normal(size=(NUM, 5)).astype(np.float32),
        },
        kinds={
            "image": "image",
            "visual": "frames",
            "audio": "spectrogram",
            "text": "tokens",
            "vector": "features",
        },
        splits={"own": NamedSplit(stratified([str(v) for v in label], (0.5, 0.25, 0.25), 0), "x")},
        present={"text": np.arange(NUM) > 0},
    )
    return tmp_path / "store"


def test_a_class_sheet_has_a_line_per_class_and_modality(store, tmp_path):
    sheet = class_sheet(store, tmp_path / "sheet.png", per_class=2)
    with Image.open(sheet) as image:
        assert image.size == (round((2.6 * 2 + 1) * 80), round((1.9 * 10 + 0.6) * 80))
        assert len(np.unique(np.asarray(image))) > 20


def test_a_sample_sheet_draws_every_kind_of_a_store(store, tmp_path):
    data = Prepared(path=store, batch_size=4)
    data.setup()
    numbers = range(len(data.splits["train"]))
    sheet = sample_sheet(data, "train", numbers, ["caption"] * len(numbers), tmp_path / "x.png")
    with Image.open(sheet) as image:
        assert len(np.unique(np.asarray(image))) > 20


def test_a_sheet_that_cannot_be_written_is_an_error(store, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        class_sheet(store, tmp_path / "file" / "sheet.png")
