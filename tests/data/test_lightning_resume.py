"""A real Trainer that stops within an epoch resumes with the next batch."""

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
    """Trains one layer by manual optimisation and records the samples of each batch."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 3)
        self.batches = []

    def training_step(self, batch, batch_idx):
        self.batches.append((self.current_epoch, batch_idx, batch["index"].tolist()))
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
    """Saves a checkpoint after a batch and stops the training."""

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
    datamodule = data(num_workers)
    if resume:
        trainer.fit(module, datamodule=datamodule, ckpt_path=path, weights_only=True)
    elif stop:
        with pytest.raises(SystemExit):
            trainer.fit(module, datamodule=datamodule)
    else:
        trainer.fit(module, datamodule=datamodule)
    return module


@pytest.fixture(scope="module")
def whole():
    module = fit(0)
    assert [(epoch, batch) for epoch, batch, _ in module.batches] == [
        (epoch, batch) for epoch in range(EPOCHS) for batch in range(BATCHES)
    ]
    for epoch in range(EPOCHS):
        rows = [row for number, _, rows in module.batches for row in rows if number == epoch]
        assert sorted(rows) == list(range(36))
    return module


def test_workers_change_nothing(whole):
    assert fit(2).batches == whole.batches


@pytest.mark.parametrize("stop", [1, 4, 5, 8, 10, 13])
def test_a_resumed_run_trains_on_the_same_samples(whole, tmp_path, stop):
    stopped = fit(0, stop=stop, path=tmp_path / "x.ckpt")
    assert len(stopped.batches) == stop
    resumed = fit(0, path=tmp_path / "x.ckpt", resume=True)
    assert stopped.batches + resumed.batches == whole.batches
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 0)])
def test_a_resumed_run_with_workers_trains_on_the_same_samples(whole, tmp_path, before, after):
    stopped = fit(before, stop=7, path=tmp_path / "x.ckpt")
    resumed = fit(after, path=tmp_path / "x.ckpt", resume=True)
    assert stopped.batches + resumed.batches == whole.batches
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


def test_epochs_with_limited_batches_count_as_epochs(whole):
    batches = fit(0, limit_train_batches=2).batches
    assert batches == [entry for entry in whole.batches if entry[1] < 2]


def test_prediction_keeps_the_order():
    module = Recorder()
    module.predict_step = lambda batch, batch_idx: batch["index"]
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    indices = trainer.predict(module, data(0).loader("train"))
    assert torch.cat(indices).tolist() == list(range(36))
