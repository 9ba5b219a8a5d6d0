"""Processes of one gloo group, and short trainings in double precision for them."""

import os
import signal
import tempfile
import time
import traceback
import warnings
from functools import cache, partial
from pathlib import Path

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint
from tests.methods.catalogue import build_method, method_node
from tests.methods.harness import NUM_CLASSES
from torch import nn
from torch.utils.data import DataLoader

from mla_lightning.composition import takes_ranks
from mla_lightning.config.targets import locate
from mla_lightning.data.loading import (
    ArrayDataset,
    HiddenModalities,
    TrainLoader,
    loader_options,
)
from mla_lightning.data.order import Request, SequentialOrder, TrainOrder
from mla_lightning.methods.head.settings import MODES
from mla_lightning.tasks import Classification

WIDTH, NUM_TRAIN, NUM_VAL = 8, 27, 9
#: Batches of 10 and one of 7; for evaluation of 4 and one of 1, which has no sample for a rank.
BATCH_SIZE, EVAL_BATCH_SIZE = 10, 4


def on_ranks(function, num_ranks=2, limit_s=60):
    """Run a function in forked processes of one group; return its values in the order of ranks."""
    with tempfile.TemporaryDirectory() as folder:
        pids = [_fork(function, rank, num_ranks, Path(folder)) for rank in range(num_ranks)]
        until, running = time.monotonic() + limit_s, list(pids)
        while running and time.monotonic() < until:
            running = [pid for pid in running if os.waitpid(pid, os.WNOHANG)[0] == 0]
            time.sleep(0.01)
        for pid in running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        files = [Path(folder) / f"{rank}.pt" for rank in range(num_ranks)]
        ended = [torch.load(f, weights_only=False) if f.exists() else None for f in files]
        errors = [value for value in ended if isinstance(value, str)]
        assert not errors, errors[0]
        assert not running, f"{len(running)} ranks waited for each other"
        return [value for (value,) in ended]


def _fork(function, rank, num_ranks, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of idle threads of a BLAS library
        pid = os.fork()
    if pid:
        return pid
    try:
        store = dist.FileStore(str(folder / "store"), num_ranks)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=num_ranks)
        value = (function(),)
    except BaseException:
        value = traceback.format_exc()
    torch.save(value, folder / f"{rank}.part")
    (folder / f"{rank}.part").rename(folder / f"{rank}.pt")
    os._exit(0)


class SomeRows(nn.Linear):
    """A layer that takes no empty batch, as those of many encoders."""

    def forward(self, x):
        assert len(x), "an encoder was called without samples"
        return super().forward(x)


class Normalised(nn.Sequential):
    """An encoder with a batch normalisation."""

    def __init__(self):
        super().__init__(SomeRows(5, WIDTH), nn.BatchNorm1d(WIDTH), nn.Tanh())
        self.out_features = WIDTH


@cache
def catalogue():
    """Return name -> settings of every method that several ranks may train."""
    from mla_lightning.config.listing import list_entries

    names = [entry.name for entry in list_entries("method")]
    methods = {n: {} for n in names if takes_ranks(locate(method_node(n)["_target_"]))}
    projections = {f"mla {mode}": {"projection": mode} for mode in MODES}
    return methods | projections


def visible(epoch):
    """Return which samples have which modality: of each batch, a single rank's have audio.

    In one batch of the second epoch none has.
    """
    seen = torch.ones(NUM_TRAIN, 2, dtype=torch.bool)
    batches = TrainOrder(NUM_TRAIN, BATCH_SIZE, seed=0).permutation(epoch).split(BATCH_SIZE)
    for number, rows in enumerate(batches):
        with_audio = rows[:3] if number % 2 == 0 else rows[-3:]
        seen[rows, 0] = torch.isin(rows, with_audio) & ((epoch, number) != (1, 1))
        seen[rows[0], 1] = not seen[rows[0], 0]
    return seen


def labels(number, task, rng):
    """Return labels of a task: classes, three labels or a number per sample."""
    if task == "regression":
        return torch.randn(number, generator=rng)
    if task == "multilabel":
        return (torch.rand(number, 3, generator=rng) < 0.5).float()
    return torch.randint(NUM_CLASSES, (number,), generator=rng)


def split(number, task, hidden=None):
    """Return random samples, the same for the same number."""
    rng = torch.Generator().manual_seed(number)
    inputs = {name: torch.randn(number, 5, generator=rng) for name in ("audio", "visual")}
    return ArrayDataset(inputs, labels(number, task, rng), hidden=hidden)


def loaders(*, is_complete, task="classification"):
    """Return loaders of training and validation, which give a rank its part of each batch."""
    hidden = None if is_complete else HiddenModalities(visible, keeps_truth=True)
    train, val = split(NUM_TRAIN, task, hidden), split(NUM_VAL, task)
    order = TrainOrder(NUM_TRAIN, BATCH_SIZE, seed=0)
    evaluation = SequentialOrder(NUM_VAL, EVAL_BATCH_SIZE, is_shared=True)
    return (
        TrainLoader(train, sampler=order, **loader_options(0)),
        DataLoader(val, sampler=evaluation, **loader_options(0)),
    )


def all_train_batches(task):
    """Return all training samples as one batch."""
    return [split(NUM_TRAIN, task)[Request(0, torch.arange(NUM_TRAIN))]]


class Recorder(Checkpoint):
    """Keeps the metrics of each epoch, and writes a checkpoint after a number of batches."""

    def __init__(self, file=None, after=None):
        self.epochs, self.file, self.after, self.batches = [], file, after, 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches += 1
        if self.batches == self.after:
            trainer.save_checkpoint(self.file)
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs.append(dict(pl_module.epoch_metrics))


def train(
    name,
    *,
    is_complete=True,
    num_ranks=1,
    encoder=Normalised,
    make_task=Classification,
    recorder=None,
    resume=None,
    callbacks=(),
    **options,
):
    """Train a method of the catalogue for two epochs; return metrics, state and optimiser."""
    method = name.partition(" ")[0]
    task = make_task()
    data = loaders(is_complete=is_complete, task=task.name)
    batch = {
        "inputs": dict.fromkeys(("audio", "visual")),
        "present": dict.fromkeys(("audio", "visual"), torch.tensor([is_complete])),
    }
    torch.manual_seed(0)
    module = build_method(
        method,
        batch,
        encoders={m: encoder() for m in batch["inputs"]},
        task=task,
        num_train=NUM_TRAIN,
        num_ranks=num_ranks,
        log_every_n_batches=3,
        optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.9),
        train_batches=options.pop("train_batches", partial(all_train_batches, task.name)),
        **catalogue().get(name, {}) | options,
    )
    recorder = recorder or Recorder()
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        precision="64-true",
        logger=False,
        callbacks=[*callbacks, recorder],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, *data, ckpt_path=resume, weights_only=True)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    optimizer = trainer.optimizers[0].state_dict()["state"]
    return {"epochs": recorder.epochs, "state": state, "optimizer": optimizer}
