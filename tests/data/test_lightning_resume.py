"""A real Trainer stops within an epoch and goes on with the very next batch."""

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mla_lightning.data.synthetic import Synthetic

EPOCHS, BATCHES = 3, 5
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings(r"ignore:.*isinstance\(treespec, LeafSpec\).*"),
]


class Recorder(LightningModule):
    """Trains one layer by hand and notes which samples came when."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 3)
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx, batch["index"].tolist()))
        loss = self.layer(batch["inputs"]["a"]).square().mean()
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Saver(Callback):
    """Checkpoints after a batch, and stops there: the rest of the process is not needed."""

    def __init__(self, path, stop):
        self.path, self.stop, self.count = path, stop, 0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.count += 1
        if self.count == self.stop and batch_idx + 1 < BATCHES:
            self.save(trainer)

    def on_train_epoch_end(self, trainer, module):
        if self.count == self.stop:
            self.save(trainer)

    def save(self, trainer):
        trainer.save_checkpoint(self.path)
        raise KeyboardInterrupt


def data(num_workers):
    return Synthetic(
        batch_size=8,
        num_workers=num_workers,
        num_classes=3,
        num_train=36,
        num_val=9,
        num_test=9,
        num_features=4,
    )


def fit(num_workers, *, stop=None, path=None, resume=False, **options):
    module = Recorder()
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=[Saver(path, stop)] if stop else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    given = data(num_workers)
    if resume:
        trainer.fit(module, datamodule=given, ckpt_path=path, weights_only=True)
    elif stop:
        with pytest.raises(SystemExit):
            trainer.fit(module, datamodule=given)
    else:
        trainer.fit(module, datamodule=given)
    return module


@pytest.fixture(scope="module")
def whole():
    module = fit(0)
    assert [(epoch, batch) for epoch, batch, _ in module.seen] == [
        (epoch, batch) for epoch in range(EPOCHS) for batch in range(BATCHES)
    ]
    for epoch in range(EPOCHS):
        rows = [row for at, _, rows in module.seen for row in rows if at == epoch]
        assert sorted(rows) == list(range(36))
    return module


def test_workers_change_nothing(whole):
    assert fit(2).seen == whole.seen


@pytest.mark.parametrize("stop", [1, 4, 5, 8, 10, 13])
def test_a_stopped_run_sees_the_same_samples(whole, tmp_path, stop):
    stopped = fit(0, stop=stop, path=tmp_path / "x.ckpt")
    assert len(stopped.seen) == stop
    resumed = fit(0, path=tmp_path / "x.ckpt", resume=True)
    assert stopped.seen + resumed.seen == whole.seen
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 0)])
def test_with_workers_too(whole, tmp_path, before, after):
    stopped = fit(before, stop=7, path=tmp_path / "x.ckpt")
    resumed = fit(after, path=tmp_path / "x.ckpt", resume=True)
    assert stopped.seen + resumed.seen == whole.seen
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


def test_epochs_that_are_cut_short_are_epochs(whole):
    seen = fit(0, limit_train_batches=2).seen
    assert seen == [entry for entry in whole.seen if entry[1] < 2]


def test_prediction_keeps_the_order():
    module = Recorder()
    module.predict_step = lambda batch, batch_idx: batch["index"]
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    parts = trainer.predict(module, data(0).loader("train"))
    assert torch.cat(parts).tolist() == list(range(36))
