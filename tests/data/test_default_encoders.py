"""Encoders and epochs that fit imported data; stores of earlier versions keep theirs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from mla_lightning.cli.main import main
from mla_lightning.config import compose_jobs, instantiate
from mla_lightning.data.prepared import Prepared
from mla_lightning.encoders import LSTM, MLP, Encoder, SmallCNN
from mla_lightning.functional.schedule import epochs_of_steps
from mla_lightning.functional.sequences import mean_of_present_steps
from mla_lightning.prepare.import_arrays import import_arrays

#: What runs on stores of the first version of the defaults have computed.
FIRST = {
    "face": {"hidden": 64, "out_features": 64, "num_layers": 2, "dropout": 0.0},
    "words": {"in_features": 3, "out_features": 128},
    "sound": {"in_channels": 1, "out_features": 64, "channels_last": True},
}


def imported(folder: Path, num: int = 60, **arrays: np.ndarray) -> Path:
    """Import features, sequences of 3 to 8 steps and spectrograms of two classes."""
    rng = np.random.default_rng(0)
    content = {
        "face": rng.normal(size=(num, 5)),
        "words": rng.normal(size=(num, 8, 3)),
        "words.lengths": rng.integers(3, 9, num),
        "sound": rng.normal(size=(num, 16, 16)),
    }
    np.savez(folder / "my.npz", label=np.arange(num) % 2, **(arrays or content))
    kinds = {} if arrays else {"sound": "spectrogram"}
    return import_arrays(folder / "my.npz", folder / "my", kinds=kinds)


def without_defaults(store: Path) -> None:
    """Make a store one of an earlier version."""
    manifest = json.loads((store / "manifest.json").read_text())
    assert manifest.pop("defaults") == 2
    (store / "manifest.json").write_text(json.dumps(manifest))


def job_of(store: Path, *words: str):
    (job,) = compose_jobs(["data=store", f"data.path={store}", *words])
    return job


def test_imported_data_get_encoders_of_their_own_and_earlier_stores_keep_theirs(tmp_path):
    store = imported(tmp_path)
    data = Prepared(path=store, batch_size=16)
    encoders = data.default_encoders()
    assert encoders["face"]["dropout"] > 0
    assert encoders["sound"]["grid"] == 4
    assert {node["out_features"] for node in encoders.values()} == {64}
    without_defaults(store)
    earlier = Prepared(path=store, batch_size=16)
    for name, node in earlier.default_encoders().items():
        assert {k: v for k, v in node.items() if k != "_target_"} == {
            **({"in_features": 5} if name == "face" else {}),
            **FIRST[name],
        }
    assert earlier.default_epochs == 40
    assert earlier.fingerprint == data.fingerprint  # the data are the same


def test_epochs_follow_the_number_of_training_samples_and_the_user_wins(tmp_path, capsys):
    epochs = {}
    for num in (20_000, 300):
        folder = tmp_path / str(num)
        folder.mkdir()
        rng = np.random.default_rng(0)
        store = imported(folder, num, a=rng.normal(size=(num, 2)), b=rng.normal(size=(num, 2)))
        job = job_of(store)
        tree = job.config.tree
        epochs[num] = tree["trainer"]["max_epochs"]
        steps = epochs[num] * math.ceil(Prepared(path=store, batch_size=16).num_train / 16)
        assert f"is {epochs[num]} epochs here: {steps:,} steps" in " ".join(job.notes)
        assert 1000 <= steps <= 10_000
        assert tree["scheduler"]["lr_lambda"]["num_epochs"] == epochs[num]  # the schedule follows
    assert epochs == {300: 100, 20_000: 10}
    assert job_of(store, "trainer.max_epochs=100").identity == job.identity
    by_user = job_of(store, "trainer.max_epochs=7")
    assert by_user.config.trainer.max_epochs == 7
    assert by_user.config.tree["scheduler"]["lr_lambda"]["num_epochs"] == 7
    assert not by_user.notes
    smaller_batches = job_of(store, "data.batch_size=4")
    assert smaller_batches.config.trainer.max_epochs == epochs_of_steps(210, 4) == 38
    without_defaults(store)
    words = ["train", "data=store", f"data.path={store}", "method=majority", "evaluate_probe=false"]
    assert main([*words, f"paths.output_dir={tmp_path / 'runs'}"]) == 0
    assert "note: trainer.max_epochs=auto is 40 epochs here" in capsys.readouterr().err


@pytest.mark.parametrize(("num", "batch_size"), [(1, 16), (319, 16), (2000, 16), (10**6, 64)])
def test_the_number_of_steps_is_about_two_thousand_within_bounds(num, batch_size):
    epochs = epochs_of_steps(num, batch_size)
    steps_per_epoch = math.ceil(num / batch_size)
    assert 10 <= epochs <= 100
    if 10 < epochs < 100:
        assert abs(epochs * steps_per_epoch - 2000) <= steps_per_epoch / 2


def accuracy(encoder: Encoder, x: torch.Tensor, label: torch.Tensor, epochs: int) -> float:
    """Train an encoder and a linear layer on the first half; return the accuracy on the second."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(encoder, torch.nn.Linear(encoder.out_features, 2)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.05)
    half = len(x) // 2
    for _ in range(epochs):
        for rows in torch.randperm(half).split(16):
            optimizer.zero_grad()
            cross_entropy(model(x[rows]), label[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        predicted = model.eval()(x[half:]).argmax(dim=1)
    return float((predicted == label[half:]).float().mean())


def test_the_frequency_of_a_tone_is_learnt_with_a_grid_alone():
    torch.manual_seed(0)
    label = torch.arange(192) % 2
    x = torch.randn(192, 1, 32, 64)
    low = 10 + 2 * torch.randint(0, 6, (192,))  # 10 to 20, and 42 to 52: alike but for the place
    for sample, band in enumerate((low + 32 * label).tolist()):
        x[sample, :, :, band : band + 2] += 3.0
    results = {}
    for grid in (None, 4):
        torch.manual_seed(1)
        results[grid] = accuracy(SmallCNN(1, out_features=16, grid=grid), x, label, epochs=6)
    assert results[None] < 0.75
    assert results[4] > 0.95


class MeanOverTime(Encoder):
    """An MLP of the mean step."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.mlp, self.out_features = MLP(in_features), 64

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(mean_of_present_steps(x))


def test_the_order_of_steps_is_learnt_by_the_encoder_of_sequences(tmp_path):
    rng = np.random.default_rng(0)
    num = 240
    label, lengths = np.arange(num) % 2, rng.integers(4, 11, num)
    x = np.zeros((num, 10, 2))
    for row, steps in enumerate(lengths):  # rising or falling: the same values in another order
        values = np.sort(rng.normal(size=steps))[:: 1 if label[row] else -1]
        x[row, :steps] = np.stack([values, rng.normal(size=steps)], axis=1)
    store = imported(tmp_path, num, walk=x, **{"walk.lengths": lengths}, other=x[:, 0])
    data = Prepared(path=store, batch_size=16)
    encoder = instantiate(data.default_encoders()["walk"])
    assert isinstance(encoder, LSTM)
    inputs = data.inputs["walk"](torch.from_numpy(x))
    assert accuracy(encoder, inputs, torch.from_numpy(label), epochs=12) > 0.9
    assert accuracy(MeanOverTime(2), inputs, torch.from_numpy(label), epochs=12) < 0.7


def test_padding_changes_no_feature_of_imported_sequences(tmp_path):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 7, 30)
    x = rng.normal(3.0, 2.0, size=(30, 6, 3))
    features = []
    for num_more in (0, 9):  # what is beyond a sequence's length is never read
        folder = tmp_path / str(num_more)
        folder.mkdir()
        padded = np.concatenate([x, rng.normal(size=(30, num_more, 3))], axis=1)
        padded[:, 6:] = np.nan if num_more == 9 else 0
        store = imported(folder, 30, a=padded, **{"a.lengths": lengths}, b=x[:, 0])
        data = Prepared(path=store, batch_size=16)
        torch.manual_seed(0)
        encoder = instantiate(data.default_encoders()["a"])
        rows = data.store.array("a").index_select(0, torch.arange(30))
        features.append(encoder(data.inputs["a"](rows)))
    torch.testing.assert_close(*features)
