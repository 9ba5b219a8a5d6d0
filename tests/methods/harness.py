"""Train any method on a few batches of random features, with a real Trainer."""

from functools import partial

import torch
from lightning.pytorch import Trainer
from torch import nn

from mla_lightning.data.loading import ArrayDataset, TrainLoader, loader_options
from mla_lightning.data.order import TrainOrder
from mla_lightning.methods.mechanisms.planned_rows import PlannedRows
from mla_lightning.module import MultimodalModule

NUM_CLASSES, WIDTH, BATCH = 4, 6, 8


class Linear(nn.Sequential):
    def __init__(self, width=WIDTH, dropout=0.0):
        super().__init__(nn.Linear(5, width), nn.Tanh(), nn.Dropout(dropout))
        self.out_features = width


class Conv(nn.Module):
    """Has 4-D, 2-D and 1-D parameters, for parameter filters."""

    out_features = WIDTH

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, WIDTH, (1, 5))

    def forward(self, x):
        return self.conv(x[:, None, None, :]).flatten(1)


def batches(number=3, num_modalities=2, seed=0, size=BATCH):
    rng = torch.Generator().manual_seed(seed)
    names = ["audio", "visual", "text"][:num_modalities]
    return [
        {
            "inputs": {name: torch.randn(size, 5, generator=rng) for name in names},
            "label": torch.randint(NUM_CLASSES, (size,), generator=rng),
            "index": torch.arange(size) + size * i,
            "present": {name: torch.ones(size, dtype=torch.bool) for name in names},
        }
        for i in range(number)
    ]


def build(
    method, fusion, data, *, seed=0, encoder=Linear, lr=0.1, momentum=0.9, parts=None, **options
):
    torch.manual_seed(seed)
    names = list(data[0]["inputs"])
    usual = {
        "optimizer": partial(torch.optim.SGD, lr=lr, momentum=momentum, weight_decay=1e-2),
        "scheduler": None,
        "num_classes": NUM_CLASSES,
        "num_train": sum(len(batch["label"]) for batch in data),
    }
    encoders = {name: encoder() for name in names}
    return method(encoders=encoders, fusion=fusion, **usual | (parts or {}), **options)


class Loader(list):
    """A list of batches that Lightning takes for a loader."""


def planned(data):
    """Return a loader of the batches' samples that follows a plan of rows."""
    joined = {key: torch.cat([batch[key] for batch in data]) for key in ("label", "index")}
    rows = joined["index"].argsort()
    inputs = {m: torch.cat([batch["inputs"][m] for batch in data])[rows] for m in data[0]["inputs"]}
    order = TrainOrder(len(rows), len(data[0]["label"]), seed=0)
    dataset = ArrayDataset(inputs, joined["label"][rows])
    return TrainLoader(dataset, sampler=order, **loader_options(0))


def fit(module: MultimodalModule, data, *, epochs=1, precision="32-true"):
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    losses = []
    original = module.fit_batch

    def recording(batch):
        result = original(batch)
        losses.append({name: float(loss) for name, loss in result.items()})
        return result

    module.fit_batch = recording
    loader = planned(data) if isinstance(module, PlannedRows) else Loader(data)
    trainer.fit(module, loader, Loader(data[:1]))
    module.fit_batch = original
    return losses


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])
