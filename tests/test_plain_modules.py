"""Methods as plain Lightning modules: own encoders, loaders and Trainers."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mla_lightning as mla
from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.run.build import build_encoders
from mla_lightning.run_folder.columns import MULTI


def loaders(num=64, *, index=False, present=False, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x = {"audio": torch.randn(num, 3, generator=rng), "visual": torch.randn(num, 5, generator=rng)}
    label = (x["audio"][:, 0] + x["visual"][:, 0] > 0).long()
    samples = [
        {m: v[k] for m, v in x.items()}
        | {"label": label[k]}
        | ({"index": torch.tensor(k)} if index else {})
        | (
            {"present": {"audio": torch.tensor(k % 3 > 0), "visual": torch.tensor(True)}}
            if present
            else {}
        )
        for k in range(num)
    ]
    return DataLoader(samples, batch_size=16, shuffle=True), DataLoader(samples, batch_size=32)


def build(method, lr=0.1, **options):
    torch.manual_seed(0)
    return method(
        encoders={"audio": nn.Linear(3, 8), "visual": nn.Linear(5, 8)},
        num_classes=2,
        optimizer=partial(torch.optim.SGD, lr=lr),
        **options,
    )


def fit(module, train, val, epochs=8, **options):
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"logger": False, "enable_checkpointing": False} | options,
    )
    trainer.fit(module, train, val)
    return trainer


@pytest.mark.parametrize("name", ["MLA", "Joint", "LateFusion", "JointUnimodal", "OGMGE"])
def test_methods_are_plain_modules(name):
    module = build(getattr(mla.methods, name))
    trainer = fit(module, *loaders())
    assert float(trainer.callback_metrics["val/acc"]) > 0.8


def test_an_error_asks_for_missing_arguments_of_a_method():
    with pytest.raises(ConfigError, match="QMF stores a history per training sample"):
        build(mla.methods.QMF)
    module = build(mla.methods.QMF, num_train=64)
    with pytest.raises(DataError, match="has no 'index'"):
        fit(module, *loaders())
    fit(build(mla.methods.QMF, num_train=64), *loaders(index=True))
    pairs = DataLoader(TensorDataset(torch.zeros(8, 3), torch.zeros(8).long()), batch_size=4)
    with pytest.raises(DataError, match=r"must be a dict .* not a list"):
        fit(build(mla.methods.MLA), pairs, pairs)
    with pytest.raises(ConfigError, match="does not say how wide its feature is"):
        mla.methods.Joint(
            encoders={"a": nn.Identity(), "b": nn.Linear(3, 2)},
            num_classes=2,
            optimizer=partial(torch.optim.SGD, lr=0.1),
        )


def test_numbers_of_samples_beyond_num_train_are_an_error():
    loader = DataLoader(loaders(index=True)[1].dataset, batch_size=64)
    with pytest.raises(DataError, match=r"must be from 0 to 62, .*num_train=63; .* to 63"):
        fit(build(mla.methods.QMF, num_train=63), loader, loader)


@pytest.mark.parametrize("name", ["CCA", "CPMNet", "DCCA", "DCCAE"])
def test_methods_that_read_the_training_split_ask_for_its_batches(name):
    options = {"num_train": 64} if name == "CPMNet" else {}
    with pytest.raises(ConfigError, match=f"{name} .* at once: give train_batches=lambda: loader"):
        build(getattr(mla.methods, name), **options)


@pytest.mark.parametrize("name", ["AE", "CRA", "CCA", "CPMNet", "DCCA", "DCCAE", "QMF"])
def test_encoders_may_be_plain_sequential_layers(name):
    train, val = loaders(index=True, present=True)
    options = {
        **({"num_components": 2} if name in ("DCCA", "DCCAE") else {}),
        **({"recon_target": "observed"} if name in ("AE", "CRA") else {}),
    }
    torch.manual_seed(0)
    encoders = {
        m: nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, 6))
        for m, width in (("audio", 3), ("visual", 5))
    }
    module = getattr(mla.methods, name)(
        encoders=encoders,
        num_classes=2,
        optimizer=partial(torch.optim.SGD, lr=0.001),
        num_train=64,
        train_batches=lambda: val,
        is_complete=False,
        **options,
    )
    trainer = fit(module, train, val, epochs=2)
    assert 0 <= float(trainer.callback_metrics["val/acc"]) <= 1
    none_present = next(iter(val)) | {"present": {"audio": torch.zeros(32, dtype=torch.bool)}}
    (outputs,) = trainer.predict(module, DataLoader([none_present], batch_size=None))
    assert outputs[0]["multi"].shape == (32, 2)


def test_an_encoder_without_a_width_is_an_error_that_names_the_attribute():
    embedding = nn.Sequential(nn.Identity(), nn.Linear(3, 8))
    with pytest.raises(ConfigError, match=r"'audio' has none: .* set .* encoder\.in_features = D"):
        mla.methods.CCA(
            encoders={"audio": embedding, "visual": nn.Linear(5, 8)},
            num_classes=2,
            optimizer=partial(torch.optim.SGD, lr=0.1),
        )


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (MULTI, "is the name of the fused result"),
        *[(key, "is a key of batches") for key in Batch.__annotations__],
        *[(name, "must have no dot") for name in ("", "audio.left")],
        *[(name, "an attribute of torch") for name in ("keys", "type", "items", "values", "train")],
        *[(name, "an attribute of torch") for name in ("forward", "training", "_modules", "get")],
    ],
)
@pytest.mark.parametrize("method", ["Joint", "MLA", "CCA"])
def test_reserved_names_of_modalities_are_errors(name, rule, method):
    with pytest.raises(ConfigError, match=f"'{name}' cannot be the name of a modality: .*{rule}"):
        getattr(mla.methods, method)(
            encoders={"audio": nn.Linear(3, 8), name: nn.Linear(5, 8)},
            num_classes=2,
            optimizer=partial(torch.optim.SGD, lr=0.1),
            train_batches=list,
        )


@pytest.mark.parametrize("logger", [False, True], ids=["without_logger", "with_logger"])
def test_a_validation_returns_its_metrics(logger, tmp_path):
    module = build(mla.methods.MLA)
    own = CSVLogger(tmp_path) if logger else False
    trainer = Trainer(
        accelerator="cpu", logger=own, enable_progress_bar=False, enable_checkpointing=False
    )
    (metrics,) = trainer.validate(module, loaders()[1], verbose=False)
    assert {"val/acc", "val/acc/audio", "val/f1_macro"} <= set(metrics)
    assert metrics["val/acc"] == pytest.approx(module.epoch_metrics["val/acc"])


def test_codes_are_found_by_the_numbers_of_samples_in_any_order():
    train, val = loaders(index=True)  # train is shuffled

    def trained_codes(loader):
        module = build(mla.methods.CPMNet, lr=0.001, num_train=64, train_batches=lambda: loader)
        fit(module, val, val, epochs=1)
        return module.fusion

    shuffled, ordered = trained_codes(train), trained_codes(val)
    expected = torch.stack([sample["label"] for sample in val.dataset])
    assert torch.equal(shuffled.label, expected)
    torch.testing.assert_close(shuffled.codes, ordered.codes)
    twice = DataLoader([val.dataset[min(k, 62)] for k in range(64)], batch_size=32)
    with pytest.raises(DataError, match=r"num_train=64, .*64 samples, 63 different .* 0 to 62"):
        trained_codes(twice)
    with pytest.raises(DataError, match=r"gives 32 samples, 32 different numbers from 0 to 31"):
        trained_codes([next(iter(val))])


def test_missing_modalities_of_plain_batches():
    module = build(mla.methods.MLA, is_complete=False)
    trainer = fit(module, *loaders(present=True))
    assert 0.5 < float(trainer.callback_metrics["val/acc"]) <= 1.0


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ({"audio": False}, r"without 'audio', .* build it with is_complete=False"),
        ({"visuel": True}, "'visuel', which is no modality .* Did you mean 'visual'"),
        ({"label": True}, "'label', which is no modality .* Modalities: audio, visual"),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_wrong_present_of_plain_batches_is_an_error(present, message, split):
    (train, val), (_, wrong) = loaders(), loaders()
    for sample in wrong.dataset:
        sample["present"] = {name: torch.tensor(value) for name, value in present.items()}
    with pytest.raises(DataError, match=message):
        fit(build(mla.methods.MLA), *((wrong, val) if split == "train" else (train, wrong)))


def test_present_of_a_modality_that_is_not_in_use_is_accepted():
    samples = [
        {**sample, "text": torch.zeros(2), "present": {"text": torch.tensor(False)}}
        for sample in loaders()[1].dataset
    ]
    loader = DataLoader(samples, batch_size=32)
    trainer = fit(build(mla.methods.MLA), loader, loader, epochs=1)
    assert trainer.current_epoch == 1


@pytest.mark.parametrize("form", ["plain", "converted"])
@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("name", ["MLA", "Joint", "LateFusion", "Unimodal", "OGMGE"])
def test_training_and_validation_need_labels(name, split, form):
    train, val = loaders()
    plain = next(iter(val))
    del plain["label"]
    converted = {
        "inputs": plain,
        "index": torch.arange(32),
        "present": {m: torch.ones(32, dtype=torch.bool) for m in plain},
    }
    without = DataLoader([plain if form == "plain" else converted], batch_size=None)
    module = build(getattr(mla.methods, name))
    with pytest.raises(DataError, match="The batch has no 'label'"):
        fit(module, *((without, val) if split == "train" else (train, without)))
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    if form == "plain":
        (outputs,) = trainer.predict(module, without)
        assert outputs[1].tolist() == [-1] * 32


def test_users_callbacks_and_loggers_receive_the_metrics(tmp_path):
    stop = EarlyStopping("val/f1_macro", mode="max", patience=1, min_delta=1.0)
    trainer = fit(
        build(mla.methods.MLA),
        *loaders(),
        callbacks=[stop],
        logger=CSVLogger(tmp_path, name="own", version=""),
    )
    assert trainer.current_epoch < 8
    names = (tmp_path / "own/metrics.csv").read_text().partition("\n")[0].split(",")
    assert {"val/acc", "val/f1_macro/audio", "train/loss/audio"} <= set(names)


def test_plain_training_equals_that_of_a_job(tmp_path):
    """The same encoders, batches and order give the same weights, bit for bit."""
    words = ("data=synthetic", "data.num_train=80", "data.num_val=24", "data.num_test=24")
    words += ("data.batch_size=8", "trainer.max_epochs=1", "optimizer.lr=0.05")
    run = mla.train(*words, method="mla", folder=tmp_path)
    data = run.loaded.data
    data.setup()
    settings = {k: v for k, v in run.config.optimizer.items() if not k.startswith("_")}
    module = mla.methods.MLA(
        encoders=build_encoders(run.config, data),
        num_classes=data.num_classes,
        optimizer=partial(torch.optim.SGD, **settings),
        seed=run.config.seed,
    )
    plain = [{**batch["inputs"], "label": batch["label"]} for batch in data.train_dataloader()]
    fit(
        module, DataLoader(plain, batch_size=None), DataLoader(plain[:1], batch_size=None), epochs=1
    )
    for key, value in run.module.state_dict().items():
        assert torch.equal(module.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("label", torch.tensor(4), "must be from 0 to 1, for 2 classes; a batch has labels from"),
        ("label", torch.tensor(-1), "must be from 0 to 1"),
        ("label", torch.tensor(1.0), r"of int64, .* not \(32,\) of torch.float32"),
        ("label", torch.zeros(4).long(), r"not \(32, 4\) of torch.int64"),
        ("present", {"audio": 1}, r"\['audio'\] must be a bool tensor .* Convert numbers with"),
        ("present", {"audio": torch.ones(2).bool()}, r"not \(32, 2\) of torch.bool"),
        ("present", torch.tensor(True), "must be a dict of modality"),
    ],
)
def test_wrong_labels_and_presence_of_plain_batches_are_errors(name, value, message):
    samples = [{**sample, name: value} for sample in loaders()[0].dataset]
    module = build(mla.methods.MLA, is_complete=False)
    with pytest.raises(DataError, match=message):
        fit(module, DataLoader(samples, batch_size=32), loaders()[1])


def test_a_module_that_reconstructs_what_is_hidden_needs_batches_that_hide():
    message = r'recon_target=oracle.*In Python: recon_target="observed", or hides_modalities=True'
    with pytest.raises(ConfigError, match=message):
        build(mla.methods.AE, recon_target="oracle")
    assert build(mla.methods.AE, recon_target="oracle", hides_modalities=True)
    train, val = loaders(present=True)
    module = build(mla.methods.AE, recon_target="observed", is_complete=False)
    fit(module, train, val, epochs=1)
    assert sum(name.startswith("train/loss/") for name in module.epoch_metrics) == 2
