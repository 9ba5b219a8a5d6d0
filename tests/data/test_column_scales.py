"""Scaled features: the numbers of the training split, kept with the run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.preprocessing import RobustScaler, StandardScaler
from tests.train.jobs import in_child, killed, outcome, same

import mla_lightning as mla
from mla_lightning.config import compose_jobs
from mla_lightning.data import column_scales as scaling
from mla_lightning.data.column_scales import CACHE, column_scales
from mla_lightning.data.prepared import Prepared
from mla_lightning.data.splits import NamedSplit
from mla_lightning.data.store import open_store, verify_store, write_store
from mla_lightning.errors import ConfigError
from mla_lightning.identity import identity_of
from mla_lightning.module import MultimodalModule
from mla_lightning.prepare.embed import embed_store
from mla_lightning.prepare.import_arrays import import_arrays
from mla_lightning.run.evaluate import load_encoders
from mla_lightning.run.finished import evaluate_run, load_run
from mla_lightning.run.predict import predict_split
from mla_lightning.run.train import run_job
from mla_lightning.run_folder import CHECKPOINTS, read_json

N = 80
RNG = np.random.default_rng(0)
LABEL = np.arange(N) % 2
SPLIT = np.array(["train", "train", "val", "test"])[np.arange(N) // 2 % 4]
ONE = (RNG.normal(size=(N, 3)) + LABEL[:, None]) * [1.0, 40.0, 0.01] + [0.0, 300.0, -2.0]
TWO = RNG.normal(size=(N, 2)) + LABEL[:, None]
TRAIN = np.flatnonzero(SPLIT == "train")
TINY = ("data=store", "trainer.max_epochs=2", "data.batch_size=8", "optimizer.lr=0.05")


def imported(folder, **arrays):
    arrays = {"label": LABEL, "split": SPLIT, "one": ONE, "two": TWO} | arrays
    np.savez(f"{folder}.npz", **arrays)
    return import_arrays(Path(f"{folder}.npz"), folder)


def written(folder, one, scale="standard", **more):
    arrays = {"one": one.astype(np.float32), "two": TWO.astype(np.float32)}
    write_store(
        folder,
        name="s",
        class_names=("a", "b"),
        ids=[f"{n:02d}" for n in range(N)],
        label=LABEL,
        arrays=arrays,
        kinds=dict.fromkeys(arrays, "features"),
        splits={"own": NamedSplit(np.arange(N) % 3, "by number")},
        scale=scale,
        **more,
    )
    return folder


def scaled(folder, **options):
    data = Prepared(path=folder, batch_size=8, **options)
    return data.inputs["one"](torch.from_numpy(np.load(folder / "one.npy"))).numpy()


@pytest.mark.parametrize(
    ("scale", "scaler", "change"),
    [
        (None, StandardScaler(), lambda x: x),
        ("robust", RobustScaler(), lambda x: x),
        ("log", StandardScaler(), lambda x: np.sign(x) * np.log1p(np.abs(x))),
    ],
)
def test_scales_are_those_of_scikit_learn_on_the_training_rows(
    tmp_path, monkeypatch, scale, scaler, change
):
    monkeypatch.setattr(scaling, "_BLOCK_VALUES", 17)  # many blocks
    one = ONE.astype(np.float32).astype(float)
    expected = scaler.fit(change(one[TRAIN])).transform(change(one))
    values = scaled(imported(tmp_path / "s"), scale=scale)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)


def test_none_and_a_store_without_a_scale_leave_features_as_they_are(tmp_path):
    stored = ONE.astype(np.float32)
    np.testing.assert_array_equal(scaled(imported(tmp_path / "s"), scale="none"), stored)
    old = written(tmp_path / "old", ONE, scale=None)
    np.testing.assert_array_equal(scaled(old), stored)
    rows = np.arange(N) % 3 == 0
    expected = StandardScaler().fit(stored[rows]).transform(stored)
    np.testing.assert_allclose(scaled(old, scale="standard"), expected, rtol=1e-3, atol=1e-3)


def test_constant_columns_become_zero_and_sparse_ones_are_kept():
    x = torch.zeros(50, 4)
    x[:, 0], x[:, 1] = 7.0, 1e6 + 0.1 * (torch.arange(50) % 2)  # but for rounding
    x[:3, 2], x[:, 3] = 5.0, 1e-12 * torch.arange(50)
    for scale in ("standard", "robust"):
        factor = column_scales(x, np.arange(50), scale).factor
        assert factor[:2] == [0.0, 0.0]
        assert factor[2] == pytest.approx(1 / x[:, 2].double().std(correction=0).item())
        assert 1e10 < factor[3] < 1e13


def test_padded_steps_are_not_counted_and_stay_zero(tmp_path):
    is_step = np.arange(6)[None] < RNG.integers(1, 7, N)[:, None]
    x = RNG.normal(5, 3, size=(N, 6, 2)).astype(np.float32) * is_step[:, :, None]
    values = scaled(written(tmp_path / "s", x))
    assert (values[~is_step] == 0).all()
    train = np.arange(N) % 3 == 0
    expected = StandardScaler().fit(x[train][is_step[train]]).transform(x[is_step])
    np.testing.assert_allclose(values[is_step], expected, atol=1e-5)


def test_absent_samples_are_not_counted_and_are_the_mean_to_the_encoder(tmp_path):
    present = np.arange(N) % 5 != 0
    one = np.where(present[:, None], ONE, 1e9)
    folder = written(tmp_path / "s", one, present={"one": present})
    rows = present & (np.arange(N) % 3 == 0)
    data = Prepared(path=folder, batch_size=8)
    np.testing.assert_allclose(data.inputs["one"].mean, ONE[rows].mean(axis=0), rtol=1e-5)
    run = mla.train(*TINY, f"data.path={folder}", "method=late_fusion", folder=tmp_path)
    batch = next(iter(data.loader("val")))
    x = run.module.convert_inputs(batch, augment=False)["inputs"]["one"]
    is_present = batch["present"]["one"]
    assert 0 < is_present.sum() < len(is_present)
    assert (x[~is_present] == 0).all()
    assert (x[is_present] != 0).all()


def test_hidden_inputs_are_zeros_and_their_truth_is_scaled(tmp_path):
    folder = imported(tmp_path / "s")
    words = (
        *TINY,
        f"data.path={folder}",
        "method=ae",
        "missing=sample_fraction",
        "missing.rate=0.4",
    )
    run = mla.train(*words, folder=tmp_path / "r")
    data = run.loaded.data
    data.setup()
    data.keep_truth()
    batch = next(iter(data.train_dataloader()))
    converted = run.module.convert_inputs(batch, augment=False)
    is_hidden = batch["hidden"]["one"]
    assert is_hidden.any()
    assert (converted["inputs"]["one"][is_hidden] == 0).all()
    truth = StandardScaler().fit(ONE[TRAIN]).transform(batch["truth"]["one"])
    np.testing.assert_allclose(converted["truth"]["one"], truth, rtol=1e-3, atol=1e-3)


def test_an_affine_change_of_the_columns_changes_no_prediction(tmp_path):
    logits, accuracy = [], []
    for name, one in (("a", ONE), ("b", ONE * [2, 8, 1000] - [64, 100, 3])):
        folder = imported(tmp_path / name, one=one)
        run = mla.train(*TINY, f"data.path={folder}", "method=mla", folder=tmp_path / "r")
        logits.append(predict_split(run.loaded, run.loaded.data, "test", 8).logits["multi"])
        accuracy.append(run.result.test["multi"]["accuracy"])
    assert accuracy[0] == accuracy[1]
    torch.testing.assert_close(*logits, atol=1e-3, rtol=1e-3)


def test_other_data_are_scaled_by_the_numbers_of_the_run(tmp_path):
    folder = imported(tmp_path / "s")
    run = mla.train(*TINY, f"data.path={folder}", "method=mla", folder=tmp_path / "r")
    expected = predict_split(run.loaded, run.loaded.data, "test", 8).logits["multi"]
    test = SPLIT == "test"
    np.savez(tmp_path / "new.npz", one=ONE[test], two=TWO[test])
    new = import_arrays(tmp_path / "new.npz", tmp_path / "new", labels="none")
    few = {"one": np.where(test[:, None], ONE, 7 * ONE), "two": TWO}  # other training rows
    for other in (new, imported(tmp_path / "few", **few)):
        loaded = load_run(run.folder, {**run.config.data, "path": str(other)})
        split = "all" if other == new else "test"
        logits = predict_split(loaded, loaded.data, split, 8).logits["multi"]
        torch.testing.assert_close(logits, expected)
    assert evaluate_run(run.folder, "test")["multi"] == run.result.test["multi"]
    checkpoint = run.folder / CHECKPOINTS / "best-acc.ckpt"
    encoders = dict(run.module.encoders)
    state = load_encoders(encoders, checkpoint)
    embed_store(Prepared(path=new, batch_size=8), tmp_path / "e", encoders, state=state)
    x = StandardScaler().fit(ONE[TRAIN]).transform(ONE[test])
    expected = encoders["one"](torch.from_numpy(x).float()).detach()
    np.testing.assert_allclose(np.load(tmp_path / "e" / "one.npy"), expected, atol=1e-4)
    assert read_json(run.folder / "provenance.json")["data"]["scale"]["one"] == "standard"


def test_a_run_without_scales_predicts_a_store_that_has_them(tmp_path):
    folder = imported(tmp_path / "s")
    words = (*TINY, f"data.path={folder}", "method=concat", "data.scale=none")
    run = mla.train(*words, folder=tmp_path / "r")
    raw = {m: np.load(folder / f"{m}.npy") for m in ("one", "two")}
    node = {**run.config.data, "scale": None}
    loaded = load_run(run.folder, node)
    logits = predict_split(loaded, loaded.data, "all", 8).logits["multi"]
    torch.testing.assert_close(logits, run.predict(raw).logits["multi"])


def test_a_resumed_run_of_scaled_features_is_exact(tmp_path):
    folder = imported(tmp_path / "s")

    def job(place):
        words = (*TINY, f"data.path={folder}", "method=mla", f"paths.output_dir={tmp_path / place}")
        return compose_jobs([*words], multirun=False)[0]

    assert in_child(lambda: run_job(job("whole"))) == 0
    assert killed(job("killed"), (MultimodalModule, "training_step", 7)) == -9
    (folder / CACHE).unlink()
    assert in_child(lambda: run_job(job("killed"))) == 0
    assert same(outcome(job("killed").run_dir), outcome(job("whole").run_dir))


def test_the_cache_is_no_part_of_the_store_and_is_checked(tmp_path):
    folder = imported(tmp_path / "s")
    first = scaled(folder)
    assert verify_store(folder) == []
    for text in ("{", "[]", (folder / CACHE).read_text().replace("1", "NaN")):
        (folder / CACHE).write_text(text)
        np.testing.assert_array_equal(scaled(folder), first)
    assert not np.allclose(scaled(folder, scale="robust"), first)


def test_the_scale_of_a_store_is_in_its_fingerprint_and_null_is_in_no_identity(tmp_path):
    plain, standard = (written(tmp_path / str(s), ONE, scale=s) for s in (None, "standard"))
    assert open_store(plain).fingerprint != open_store(standard).fingerprint
    null, robust = (
        compose_jobs(["data=store", f"data.path={plain}", f"data.scale={scale}"], multirun=False)[0]
        for scale in ("null", "robust")
    )
    tree = null.config.tree
    before = {**tree, "data": {k: v for k, v in tree["data"].items() if k != "scale"}}
    assert (
        null.identity
        == identity_of(before, Prepared(path=plain, batch_size=8).fingerprint)
        != robust.identity
    )


def test_a_scale_that_is_unknown_or_has_no_effect_is_an_error(tmp_path):
    folder = imported(tmp_path / "s")
    with pytest.raises(ConfigError, match="Did you mean 'standard'"):
        Prepared(path=folder, batch_size=8, scale="standart")
    np.savez(tmp_path / "t.npz", label=LABEL, words=np.ones((N, 3), dtype=int))
    tokens = import_arrays(tmp_path / "t.npz", tmp_path / "t")
    with pytest.raises(ConfigError, match=r"data.scale=log has no effect.*words \(tokens\)"):
        Prepared(path=tokens, batch_size=8, scale="log")
