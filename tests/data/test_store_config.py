"""Training on any store by its path, and on a store of the features of encoders."""

import numpy as np
import pytest

from mla_lightning.cli.main import main
from mla_lightning.data.splits import NamedSplit, stratified
from mla_lightning.data.store import open_store, write_store

N = 60


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    label = np.arange(N) % 3
    write_store(
        tmp_path / "raw",
        name="toy",
        class_names=("a", "b", "c"),
        ids=[f"s{n:02d}" for n in range(N)],
        label=label,
        arrays={
            "image": rng.integers(0, 256, (N, 3, 8, 8), dtype=np.uint8),
            "film": rng.integers(0, 256, (N, 2, 3, 8, 8), dtype=np.uint8),
            "audio": (rng.normal(size=(N, 16, 8)) + 3 * label[:, None, None]).astype(np.float16),
            "text": rng.integers(1, 9, (N, 4)),
        },
        kinds={"image": "image", "film": "frames", "audio": "spectrogram", "text": "tokens"},
        splits={"own": NamedSplit(stratified([str(v) for v in label], (0.5, 0.2, 0.3), 0), "x")},
    )
    return tmp_path / "raw"


QUICK = ["trainer.max_epochs=2", "optimizer.lr=0.05", "data.batch_size=10"]


def test_any_store_can_be_trained_on_by_its_path(store, capfd):
    assert main(["train", "data=store", f"data.path={store}", *QUICK]) == 0
    assert "store mla" in capfd.readouterr().out
    assert main(["train", "data=store", f"data.path={store}", "encoder=small_image_text"]) == 2
    assert "encoder has no entry for 'film' of toy" in capfd.readouterr().err
    assert main(["train", "data=store", f"path={store}"]) == 2
    assert "Unknown key 'path'. Did you mean 'data.path'?" in capfd.readouterr().err
    assert main(["train", "data=store"]) == 2
    assert "data.path is not set" in capfd.readouterr().err


def test_features_of_encoders_become_a_store_to_train_on(store, tmp_path, capfd):
    words = ["data=store", f"data.path={store}", "modalities=[audio,image]"]
    assert main(["data", "embed", "target=emb", *words]) == 0
    assert "mla train data=store data.path=emb" in capfd.readouterr().out
    embedded = open_store(tmp_path / "emb")
    kinds = {name: entry["kind"] for name, entry in embedded.manifest["modalities"].items()}
    assert kinds["audio"] == kinds["image"] == "features"
    assert kinds["film"] == "frames"
    assert main(["train", "data=store", "data.path=emb", "modalities=[audio,image]", *QUICK]) == 0
    assert main(["data", "embed", *words]) == 2
    assert "target is missing" in capfd.readouterr().err
    assert main(["data", "embed", "target=x", "data=synthetic"]) == 2
    assert "is not a prepared store" in capfd.readouterr().err
