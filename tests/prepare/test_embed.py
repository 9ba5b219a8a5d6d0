"""Stores of the features of frozen encoders."""

import numpy as np
import pytest
import torch

from mla_lightning.cli.main import main
from mla_lightning.data.prepared import Prepared
from mla_lightning.data.splits import NamedSplit
from mla_lightning.data.store import open_store, verify_store, write_store
from mla_lightning.encoders.bag_of_tokens import BagOfTokens
from mla_lightning.encoders.mlp import MLP
from mla_lightning.encoders.small_cnn import SmallCNN
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.inputs.images import Images
from mla_lightning.prepare.embed import embed_store

NUM = 13


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(0)
    present = np.ones(NUM, dtype=bool)
    present[-1] = False
    codes = np.array([0] * 8 + [1] * 2 + [2] * 3, dtype=np.int8)
    write_store(
        tmp_path / "raw",
        name="toy",
        class_names=["a", "b"],
        ids=[f"s{n:02d}" for n in range(NUM)],
        label=np.arange(NUM) % 2,
        arrays={
            "image": rng.integers(0, 256, (NUM, 3, 8, 8), dtype=np.uint8),
            "text": rng.integers(1, 9, (NUM, 4)),
            "audio": rng.normal(size=(NUM, 16, 8)).astype(np.float16),
        },
        kinds={"image": "image", "text": "tokens", "audio": "spectrogram"},
        splits={"own": NamedSplit(codes, "The first eight train.", "speaker")},
        present={"text": present},
        attributes={"speaker": [f"p{n}" for n in range(NUM)]},
        failures=[{"id": "s99", "file": "y", "reason": "empty"}],
    )
    return tmp_path / "raw"


@pytest.fixture
def encoders():
    torch.manual_seed(0)
    return {"image": SmallCNN(3, out_features=6), "text": BagOfTokens(9, out_features=5)}


def opened(store):
    return Prepared(path=store, batch_size=4)


def test_features_come_from_the_encoders_and_everything_else_is_copied(store, encoders, tmp_path):
    data = Prepared(path=store, batch_size=4, inputs={"image": Images(0.5, 0.25)})
    target = embed_store(data, tmp_path / "new", encoders, batch_size=4)
    assert verify_store(target) == []
    old, new = open_store(store), open_store(target)
    images = torch.from_numpy(np.load(store / "image.npy")).float() / 255
    with torch.no_grad():
        expected = encoders["image"].eval()((images - 0.5) / 0.25)
    features = torch.from_numpy(np.load(target / "image.npy"))
    assert torch.allclose(features, expected, atol=1e-6)
    assert np.array_equal(np.load(target / "audio.npy"), np.load(store / "audio.npy"))
    assert (np.load(target / "text.npy")[-1] == 0).all()
    assert np.load(target / "text.npy")[0].any()
    assert np.array_equal(new.present("text"), old.present("text"))
    assert new.ids == old.ids
    assert new.attribute("speaker") == old.attribute("speaker")
    assert (target / "sources.json").read_bytes() == (store / "sources.json").read_bytes()
    for key in ("class_names", "splits", "default_split", "failures"):
        assert new.manifest[key] == old.manifest[key]
    kinds = {name: entry["kind"] for name, entry in new.manifest["modalities"].items()}
    assert kinds == {"image": "features", "text": "features", "audio": "spectrogram"}
    assert new.manifest["modalities"]["image"]["options"]["encoder"] == "SmallCNN"
    assert new.manifest["modalities"]["image"]["options"]["input"]["mean"] == [0.5]
    assert new.manifest["options"]["embedded_from"] == old.fingerprint
    assert new.fingerprint != old.fingerprint


def test_training_reads_the_features_as_vectors(store, encoders, tmp_path):
    target = embed_store(opened(store), tmp_path / "new", encoders)
    data = Prepared(path=target, batch_size=4, modalities=["image", "text"])
    batch = next(iter(data.train_dataloader()))
    assert batch["inputs"]["image"].shape == (4, 6)
    assert MLP(5, num_layers=1)(batch["inputs"]["text"]).shape == (4, 64)


def test_the_encoder_is_not_changed(store, encoders, tmp_path):
    encoder = encoders["image"].train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    embed_store(opened(store), tmp_path / "new", {"image": encoder})
    assert all(module.training for module in encoder.modules())
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in encoder.parameters())


def test_the_same_encoder_makes_the_same_store_and_another_one_does_not(store, encoders, tmp_path):
    first, same = (embed_store(opened(store), tmp_path / n, encoders) for n in ("first", "same"))
    assert open_store(first).fingerprint == open_store(same).fingerprint
    with torch.no_grad():
        encoders["text"].embedding.weight[3] += 1
    other = embed_store(opened(store), tmp_path / "other", encoders)
    assert open_store(other).fingerprint != open_store(first).fingerprint
    hashes = [
        open_store(s).manifest["modalities"]["text"]["options"]["weights_sha256"]
        for s in (first, other)
    ]
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoders": {}}, "No encoder"),
        ({"encoders": {"imag": None}}, "no modality 'imag'. Did you mean 'image'?"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_wrong_arguments_are_errors(store, encoders, tmp_path, options, message):
    arguments = {"encoders": encoders} | options
    with pytest.raises(ConfigError) as caught:
        embed_store(opened(store), tmp_path / "new", **arguments)
    assert message in str(caught.value)


def test_an_error_leaves_no_files(store, encoders, tmp_path):
    with pytest.raises(ConfigError, match="BagOfTokens expects"):
        embed_store(opened(store), tmp_path / "new", {"audio": encoders["text"]})
    with torch.no_grad():
        encoders["text"].embedding.weight[3] = float("nan")
    with pytest.raises(DataError, match="not finite"):
        embed_store(opened(store), tmp_path / "new", encoders)
    assert {path.name for path in tmp_path.iterdir()} == {"raw"}
    (tmp_path / "new").mkdir()
    with pytest.raises(DataError, match="exists"):
        embed_store(opened(store), tmp_path / "new", encoders)


def test_encoders_load_the_weights_of_a_checkpoint(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    make_npz(tmp_path / "x.npz")
    assert main(["data", "import", "x.npz", "target=data/x"]) == 0
    store = ["data=store", "data.path=data/x"]
    assert main(["train", *store, "method=late_fusion", "trainer.max_epochs=2", "run_dir=run"]) == 0
    embed = ["data", "embed", *store]
    checkpoint = "ckpt=run/checkpoints/best-acc.ckpt"
    assert main([*embed, "target=data/blank"]) == 0
    assert main([*embed, "target=data/trained", checkpoint]) == 0
    from mla_lightning.callbacks.checkpoint_io import read_checkpoint

    state = read_checkpoint(tmp_path / "run/checkpoints/best-acc.ckpt")["state_dict"]
    encoder = MLP(4)
    encoder.load_state_dict(
        {k.removeprefix("encoders.left."): v for k, v in state.items() if "encoders.left." in k}
    )
    raw = torch.from_numpy(open_store(tmp_path / "data/x").array("left")[:])
    raw = (raw - state["scales.left.mean"]) * state["scales.left.factor"]
    trained = open_store(tmp_path / "data/trained").array("left")[:]
    np.testing.assert_allclose(trained, encoder(raw).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert not np.allclose(trained, open_store(tmp_path / "data/blank").array("left")[:])
    capfd.readouterr()
    make_npz(tmp_path / "y.npz", width=3)
    assert main(["data", "import", "y.npz", "target=data/y"]) == 0
    wrong = ["data", "embed", "data=store", "data.path=data/y", "target=data/wrong", checkpoint]
    assert main(wrong) != 0
    assert "belongs to another model" in capfd.readouterr().err


def make_npz(path, width=4):
    rng = np.random.default_rng(0)
    label = np.arange(40) % 2
    sides = {name: rng.normal(size=(40, width)).astype(np.float32) for name in ("left", "right")}
    np.savez(path, label=label, **sides)
