"""P14 and the peak: memory that must not grow, and graphs that must not exist at the same time."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import Measurement, call_in_new_process
from benchmarks.setups import RESNETS, TINY, BatchList, Setup, draw_audio_visual_batch
from mla_lightning.batch import Batch
from mla_lightning.methods.mla import MLA

NUM_WARMUP, NUM_STEPS, BATCH_SIZE = 300, 1000, 8
PROCEDURE_GROWTH = (
    "Resident memory of a new process that trains the perceptrons with MLA and projection, "
    f"after batch {NUM_WARMUP + NUM_STEPS} less after batch {NUM_WARMUP}"
)
PROCEDURE_PEAK = (
    "Peak resident memory (imports included) of two new processes after two MLA batches of "
    f"{BATCH_SIZE} through two ResNet-18: as it is, and with all encoders run before the first step"
)


def measure() -> list[Measurement]:
    """Measure growth and peak, each in new processes."""
    growth = call_in_new_process("memory.growth_mb")
    alternating, all_first = (
        call_in_new_process("memory.peak_mb", is_all_first) for is_all_first in (False, True)
    )
    growth_title = f"memory growth over {NUM_STEPS} steps"
    peak_title, ratio = "peak memory / all encoders forward first", alternating / all_first
    detail = f"{all_first:.0f} → {alternating:.0f} MB"
    return [
        Measurement("P14", growth_title, growth, 5, "MB", PROCEDURE_GROWTH, is_strict=True),
        Measurement("peak", peak_title, ratio, 1, "x", PROCEDURE_PEAK, detail, is_strict=True),
    ]


class MemoryRecorder(BatchList):
    """A loader that records the memory in use before each batch."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches."""
        self.resident, self.peaks = [], []
        for batch in self.batches:
            self.resident.append(resident_mb())
            self.peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            yield batch


def growth_mb(num_warmup: int = NUM_WARMUP, num_steps: int = NUM_STEPS) -> float:
    """Train small encoders; return the growth in MB."""
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(Path(folder) / "run", *TINY, "trainer.max_epochs=1", "data.num_train=6400")
        batches = list(setup.data.train_dataloader())
        num_batches = num_warmup + num_steps + 1
        loader = MemoryRecorder([batches[i % len(batches)] for i in range(num_batches)])
        setup.trainer.fit(setup.module, loader, setup.data.val_dataloader())
    return max(0.0, loader.resident[-1] - loader.resident[num_warmup])


class Computed(nn.Module):
    """An encoder whose features were computed before."""

    def __init__(self, feature: Tensor) -> None:
        """Keep the feature (B, D), with its graph."""
        super().__init__()
        self.feature = feature

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the feature."""
        return self.feature


class AllFirst(MLA):
    """MLA whose encoders all run before the first step, so that all graphs exist at once."""

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step per modality."""
        encoders, features = self.encoders, self.features(batch)
        self.encoders = nn.ModuleDict({name: Computed(h) for name, h in features.items()})
        try:
            return super().fit_batch(batch)
        finally:
            self.encoders = encoders


def peak_mb(is_all_first: bool, batch_size: int = BATCH_SIZE) -> float:
    """Train ResNets for two batches; return the peak in MB."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(Path(folder) / "run", *RESNETS, "trainer.max_epochs=1")
        if is_all_first:
            setup.module.__class__ = AllFirst
        sizes = (batch_size, batch_size, 2)
        loader = MemoryRecorder([draw_audio_visual_batch(size) for size in sizes])
        setup.trainer.fit(setup.module, loader, BatchList([draw_audio_visual_batch(2)]))
    return loader.peaks[-1]


def resident_mb() -> float:
    """Return the memory of this process that is in use, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
