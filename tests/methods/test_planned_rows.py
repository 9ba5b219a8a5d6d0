"""Rules that choose the rows of an epoch: what the Trainer expects, resumes, encoders, errors."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from tests.methods.harness import batches, build, fit
from torch import nn
from torch.utils.data import DataLoader

from mla_lightning.batch import slice_batch
from mla_lightning.data.synthetic import Synthetic
from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Concat
from mla_lightning.methods import Joint
from mla_lightning.methods.mechanisms.planned_rows import PlannedRows

NUM, BATCH = 36, 8
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:You have overridden"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*in eval mode"),
]


class Growing(PlannedRows):
    """Repeats samples with one modality alone, more of them in later epochs."""

    def __init__(self, *, warmup_epochs=1, masked_encoders="skip", **parts):
        super().__init__(warmup_epochs=warmup_epochs, masked_encoders=masked_encoders, **parts)
        self.row_order = "rows"

    def count_rows(self):
        counts = self.whole_samples()
        counts[: 8 * self.current_epoch, 1] = 1
        counts[::5, 2] = self.current_epoch
        return counts

    fit_batch = Joint.fit_batch


def num_batches(epoch, warmup=1):
    rows = NUM if epoch < warmup else NUM + min(NUM, 8 * epoch) + 8 * epoch
    return -(-rows // BATCH)


class Watch(Callback):
    """Records batches, validations and the number of batches that is expected."""

    def __init__(self, path=None, stop=None):
        self.path, self.stop, self.count = path, stop, 0
        self.batches, self.validations, self.expected = [], [], {}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.batches.append((trainer.current_epoch, batch_idx, batch["index"].tolist()))
        self.expected[trainer.current_epoch] = trainer.num_training_batches
        self.count += 1
        if self.count == self.stop and batch_idx + 1 < trainer.num_training_batches:
            self.save(trainer)

    def on_train_epoch_end(self, trainer, module):
        if self.count == self.stop:
            self.save(trainer)

    def save(self, trainer):
        trainer.save_checkpoint(self.path)
        raise KeyboardInterrupt

    def on_validation_start(self, trainer, module):
        self.validations.append((trainer.current_epoch, self.batches[-1][1]))


def train(*, num_workers=0, epochs=4, watch=None, resume=None, callbacks=(), **options):
    data = Synthetic(
        batch_size=BATCH,
        num_workers=num_workers,
        num_classes=3,
        num_train=NUM,
        num_val=9,
        num_test=9,
        num_features=4,
    )
    torch.manual_seed(0)
    module = Growing(
        encoders={name: nn.Linear(4, 6) for name in data.modalities},
        num_classes=3,
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        num_train=NUM,
        train_batches=partial(data.loader, "train"),
    )
    watch = watch or Watch()
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[watch, *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=bool(callbacks),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    if watch.stop:
        with pytest.raises(SystemExit):
            trainer.fit(module, data)
    else:
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return module, watch


@pytest.fixture(scope="module")
def whole():
    return train()


def test_the_trainer_expects_as_many_batches_as_there_are(whole):
    _, watch = whole
    expected = {epoch: num_batches(epoch) for epoch in range(4)}
    assert watch.expected == expected
    assert len(set(expected.values())) == 4
    assert [place[:2] for place in watch.batches] == [
        (epoch, batch) for epoch in range(4) for batch in range(expected[epoch])
    ]
    assert watch.validations == [(epoch, expected[epoch] - 1) for epoch in range(4)]


def test_limits_and_intervals_hold_in_every_epoch():
    _, watch = train(limit_train_batches=6)
    assert watch.expected == {0: 5, 1: 6, 2: 6, 3: 6}
    _, watch = train(limit_train_batches=0.5)
    assert watch.expected == {epoch: int(num_batches(epoch) * 0.5) for epoch in range(4)}
    _, watch = train(val_check_interval=0.5, epochs=3)
    halves = {epoch: int(num_batches(epoch) * 0.5) for epoch in range(3)}
    assert watch.validations == [
        (epoch, batch)
        for epoch in range(3)
        for batch in range(num_batches(epoch))
        if (batch + 1) % halves[epoch] == 0
    ]


def test_the_progress_bar_shows_the_length_of_its_epoch():
    totals = []

    class Bar(TQDMProgressBar):
        def on_train_batch_end(self, trainer, *arguments):
            totals.append((trainer.current_epoch, self.train_progress_bar.total))

    train(callbacks=[Bar()], epochs=3)
    assert set(totals) == {(epoch, num_batches(epoch)) for epoch in range(3)}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [3, 5, 7, 12, 13, 19, 30])
def test_a_resumed_run_trains_on_the_same_rows(whole, tmp_path, stop, num_workers):
    path = tmp_path / "x.ckpt"
    _, stopped = train(watch=Watch(path, stop))
    module, resumed = train(resume=path, num_workers=num_workers)
    assert stopped.batches + resumed.batches == whole[1].batches
    assert resumed.expected == {e: num_batches(e) for e in resumed.expected}
    assert resumed.validations == whole[1].validations[-len(resumed.validations) :]
    for key, value in whole[0].state_dict().items():
        assert torch.equal(module.state_dict()[key], value), key


def made(method, data, encoder=None, **options):
    parts = {"train_batches": lambda: data}
    if encoder is not None:
        options["encoder"] = encoder
    return build(method, Concat, data, parts=parts, **options)


class Counting(nn.Sequential):
    """An encoder with a batch normalisation, which records how many rows it got in training."""

    def __init__(self):
        super().__init__(nn.Linear(5, 6), nn.BatchNorm1d(6))
        self.out_features, self.rows = 6, []

    def forward(self, x):
        if self.training:
            self.rows.append(len(x))
        return super().forward(x)


def row_batch(kinds):
    """Return a batch of rows of these kinds (-1: whole)."""
    batch = slice_batch(batches(1)[0], slice(0, len(kinds)))
    alone = torch.tensor(kinds)
    full = batch["present"]
    batch["present"] = {m: (alone < 0) | (alone == i) for i, m in enumerate(full)}
    batch["left_out"] = {m: ~has for m, has in batch["present"].items()}
    batch["copy"] = torch.zeros(len(kinds)).long()
    return batch


@pytest.mark.parametrize(
    ("masked_encoders", "kinds", "expected"),
    [
        ("skip", (-1, 0, 0, 1, -1), (4, 3)),
        ("run", (-1, 0, 0, 1, -1), (5, 5)),
        ("skip", (0, 0, 0), (3, 0)),
        ("run", (0, 0, 0), (3, 3)),
        ("skip", (-1, 0, 0), (3, 3)),  # a single row cannot be normalised
    ],
)
def test_masked_encoders(masked_encoders, kinds, expected):
    module = made(Growing, batches(3), Counting, masked_encoders=masked_encoders)
    batch = row_batch(kinds)
    features = module.features(batch)
    for name, number in zip(module.modalities, expected, strict=True):
        encoder = module.encoders[name]
        assert sum(encoder.rows) == number
        assert encoder[1].num_batches_tracked == (number > 0)
        absent = features[name][~batch["present"][name]]
        assert torch.equal(absent, torch.zeros_like(absent))
    loss = module.parts.loss(module.fusion(features, module.parts.presence(batch)), batch)
    loss.backward()
    gradient = module.encoders["visual"][0].weight.grad
    if expected[1] == 0:
        assert gradient is None
    elif kinds == (0, 0, 0):
        assert not gradient.any()


def test_an_encoder_without_rows_keeps_its_weights_and_statistics():
    class Audio(Growing):
        def count_rows(self):
            counts = torch.zeros_like(self.counts)
            counts[:, 1] = 1
            return counts

    data = batches(3)
    for masked_encoders, is_kept in (("skip", True), ("run", False)):
        module = made(Audio, data, Counting, masked_encoders=masked_encoders, warmup_epochs=0)
        before = {k: v.clone() for k, v in module.encoders["visual"].state_dict().items()}
        fit(module, data)
        after = module.encoders["visual"].state_dict()
        assert all(torch.equal(after[k], v) for k, v in before.items()) is is_kept


def test_errors_say_what_to_do():
    data = batches(3)
    with pytest.raises(ConfigError, match="warmup_epochs must be >= 0, got -1"):
        made(Growing, data, warmup_epochs=-1)
    with pytest.raises(ConfigError, match=r"'skp' is unknown\. Did you mean 'skip'"):
        made(Growing, data, masked_encoders="skp")
    with pytest.raises(ConfigError, match=r"=2 leaves no epoch of trainer\.max_epochs=2"):
        fit(made(Growing, data, warmup_epochs=2), data, epochs=2)
    parts = {"train_batches": lambda: data}
    with pytest.raises(ConfigError, match="no rule for samples with missing modalities"):
        build(Growing, Concat, data, parts={**parts, "is_complete": False})
    with pytest.raises(ConfigError, match="resample_train_masks=true changes that every epoch"):
        build(Growing, Concat, data, parts={**parts, "resamples_masks": True})
    with pytest.raises(ConfigError, match="give train_batches=lambda: loader"):
        build(Growing, Concat, data)
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    plain = DataLoader(data, batch_size=None)
    with pytest.raises(ConfigError, match=r"DataLoader of your own draws samples itself\. Give"):
        trainer.fit(made(Growing, data), plain, plain)


def test_a_second_fit_begins_with_the_warmup_again():
    data = batches(3)
    module = made(Growing, data)
    fit(module, data, epochs=2)
    assert module.counts[:, 1:].any()
    assert len(fit(module, data, epochs=2)) == 3 + 5  # of 24 rows, and of 24 + 8 + 5
