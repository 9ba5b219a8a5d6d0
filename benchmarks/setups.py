"""What is measured: this package's modules and Trainers, and the bare loop beside them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.config import compose_jobs
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.loggers.build import build_loggers
from mla_lightning.module import MultimodalModule
from mla_lightning.run.build import build_data, build_module
from mla_lightning.run.train import _silence_lightning, build_trainer

#: The paper's rate: the same few random samples again and again diverge at a larger one.
RESNETS = (
    "data=synthetic",
    "data.num_classes=6",
    "encoder=resnet18_audio_visual",
    "optimizer.lr=0.001",
)
#: Two perceptrons 128-128-64: so little to compute that everything else shows.
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
    """A job's data, module and Trainer, as training builds them."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        """Compose and build, on one thread.

        Args:
            folder: Where the run folder goes.
            *overrides: What would follow ``mla train``; the last of a key counts.
        """
        last = {override.partition("=")[0]: override for override in overrides}
        job = compose_jobs([*last.values(), f"run_dir={folder}"])[0]
        self.config: dict[str, Any] = job.config
        self.run_dir = job.run_dir
        torch.set_num_threads(1)
        _silence_lightning()
        self.data: MultimodalDataModule = build_data(self.config)
        self.module: MultimodalModule = build_module(self.config, self.data)
        checkpoints = self.run_dir / "checkpoints"
        checkpoints.mkdir(parents=True)
        loggers = build_loggers(self.config, self.run_dir, job.identity)
        self.trainer: Trainer = build_trainer(
            self.config,
            self.run_dir,
            RunCheckpoint(checkpoints, **self.config["checkpoint"]),
            loggers,
        )

    def bare(self) -> Bare:
        """Build the bare loop over a copy of the module's weights."""
        return Bare(self.module)


class Bare:
    """The hand-written loop: an MLA step and nothing else."""

    def __init__(self, module: MultimodalModule) -> None:
        """Copy the weights.

        Args:
            module: The module to take encoders and head from.
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


def audio_visual(size: int) -> dict[str, Any]:
    """Draw a batch of spectrograms (1 x 257 x 299) and three video frames (3 x 224 x 224)."""
    everything = torch.ones(size, dtype=torch.bool)
    inputs: dict[str, Tensor] = {
        "audio": torch.randn(size, 1, 257, 299),
        "visual": torch.randn(size, 3, 3, 224, 224),
    }
    return {
        "inputs": inputs,
        "label": torch.arange(size) % 6,
        "index": torch.arange(size),
        "present": dict.fromkeys(inputs, everything),
    }


class Ready:
    """A loader of batches that are ready."""

    def __init__(self, batches: list[dict[str, Any]]) -> None:
        """Hold the batches."""
        self.batches = batches

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches."""
        yield from self.batches


@contextmanager
def as_written_by_hand() -> Iterator[None]:
    """Run as a plain script would: Lightning's determinism is global and would slow it, too."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
