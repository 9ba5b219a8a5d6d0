"""The compared training loops: Trainers as training builds them, and a hand-written loop."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.callbacks.epoch_table import EpochTable
from mla_lightning.config import compose_jobs
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.loggers.build import build_loggers
from mla_lightning.module import MultimodalModule
from mla_lightning.run.build import build_data, build_module
from mla_lightning.run.trainer import build_trainer, silence_lightning

#: The paper's learning rate: a larger one diverges on the same few random samples.
RESNETS = (
    "data=synthetic",
    "data.num_classes=6",
    "encoder=resnet18_audio_visual",
    "optimizer.lr=0.001",
)
#: Two perceptrons 128-128-64: so little computation that everything else is visible.
TINY = (
    "data=synthetic",
    "data.num_classes=6",
    "data.num_features=128",
    "data.num_train=32000",
    "data.batch_size=64",
    *(
        f"encoder.{name}.{key}"
        for name in ("audio", "visual")
        for key in ("hidden=128", "out_features=64", "dropout=0.0")
    ),
)
OPENMOJI = ("data=openmoji",)


class Setup:
    """Data, module and Trainer of a job, as training builds them."""

    def __init__(self, run_dir: Path, *overrides: str) -> None:
        """Compose the config and build all, on one thread.

        Args:
            run_dir: The run folder.
            *overrides: The words after ``mla train``; the last one of a key counts.
        """
        by_key = {override.partition("=")[0]: override for override in overrides}
        job = compose_jobs([*by_key.values(), f"run_dir={run_dir}"])[0]
        config = job.config
        torch.set_num_threads(1)
        silence_lightning()
        self.data: MultimodalDataModule = build_data(config)
        self.module: MultimodalModule = build_module(config, self.data)
        checkpoints = job.run_dir / "checkpoints"
        checkpoints.mkdir(parents=True)
        self.trainer: Trainer = build_trainer(
            config,
            job.run_dir,
            RunCheckpoint(checkpoints, **asdict(config.checkpoint)),
            build_loggers(config, job.run_dir, job.run_id),
            [EpochTable(job.run_dir)],
        )

    def bare_loop(self) -> BareLoop:
        """Return a bare loop over a copy of the module's weights."""
        return BareLoop(self.module)


class BareLoop:
    """A hand-written training loop: the steps of MLA and nothing else."""

    def __init__(self, module: MultimodalModule) -> None:
        """Copy the weights.

        Args:
            module: The module whose encoders and head are copied.
        """
        self.encoders = copy.deepcopy(module.encoders)
        self.head: nn.Linear = copy.deepcopy(module.fusion.head)
        parameters = [*self.encoders.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=1e-4)
        self.projector = torch.eye(self.head.in_features)

    def __call__(self, batch: dict[str, Any]) -> None:
        """Train on a batch, one modality after the other."""
        for name, encoder in self.encoders.items():
            self.optimizer.zero_grad(set_to_none=True)
            feature = encoder(batch["inputs"][name])
            cross_entropy(self.head(feature), batch["label"]).backward()
            gradient = self.head.weight.grad
            gradient.copy_(gradient @ self.projector.T)
            self.optimizer.step()
            mean = feature.detach().mean(dim=0)
            direction = self.projector @ mean
            direction /= torch.sqrt(0.1 + mean @ direction)
            self.projector.addr_(direction, direction, alpha=-1)


def draw_audio_visual_batch(size: int) -> dict[str, Any]:
    """Draw a batch of spectrograms (1 x 257 x 299) and of three video frames (3 x 224 x 224)."""
    present = torch.ones(size, dtype=torch.bool)
    inputs: dict[str, Tensor] = {
        "audio": torch.randn(size, 1, 257, 299),
        "visual": torch.randn(size, 3, 3, 224, 224),
    }
    return {
        "inputs": inputs,
        "label": torch.arange(size) % 6,
        "index": torch.arange(size),
        "present": dict.fromkeys(inputs, present),
    }


class BatchList:
    """A loader of batches that are in memory."""

    def __init__(self, batches: list[dict[str, Any]]) -> None:
        """Keep the batches."""
        self.batches = batches

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches."""
        yield from self.batches


@contextmanager
def nondeterministic_algorithms() -> Iterator[None]:
    """Compute as a plain script does: the Trainer's determinism is global and slows it down."""
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_deterministic)
