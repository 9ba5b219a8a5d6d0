"""P14 and the peak: memory that a run must not collect, and graphs that must not coexist."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.measure import Row, fresh
from benchmarks.setups import RESNETS, TINY, Ready, Setup, audio_visual
from mla_lightning.batch import Batch
from mla_lightning.methods.head.rules import HeadStep
from mla_lightning.methods.mla import MLA

WARM, STEPS, BATCH = 300, 1000, 8
HOW_GROWTH = (
    f"Resident memory of a fresh process that trains the perceptrons with MLA and projection, "
    f"after batch {WARM + STEPS} less after batch {WARM}"
)
HOW_PEAK = (
    f"Peak resident memory (imports included) of two fresh processes after two MLA batches of "
    f"{BATCH} through two ResNet-18: as it is, and with all encoders run before the first step"
)


def measure() -> list[Row]:
    """Measure growth and peak, each in fresh processes."""
    growth = fresh("memory.growth")
    one, all_first = fresh("memory.peak", False), fresh("memory.peak", True)
    detail = f"{all_first:.0f} → {one:.0f} MB"
    what = "peak memory / all encoders forward first"
    return [
        Row("P14", f"memory growth over {STEPS} steps", growth, 5, "MB", HOW_GROWTH, strict=True),
        Row("peak", what, one / all_first, 1, "x", HOW_PEAK, detail, strict=True),
    ]


class Watched(Ready):
    """Notes the memory in use before each batch."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches."""
        self.resident, self.peaks = [], []
        for batch in self.batches:
            self.resident.append(_resident_mb())
            self.peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            yield batch


def growth() -> float:
    """Train small encoders; returns the growth in MB."""
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(Path(folder) / "run", *TINY, "trainer.max_epochs=1", "data.num_train=6400")
        some = list(setup.data.train_dataloader())
        loader = Watched([some[i % len(some)] for i in range(WARM + STEPS + 1)])
        setup.trainer.fit(setup.module, loader, setup.data.val_dataloader())
    return max(0.0, loader.resident[-1] - loader.resident[WARM])


class AllFirst(MLA):
    """MLA whose encoders all run before the first step, so that all graphs are alive."""

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step per modality."""
        features, head, modification = self.features(batch), self.fusion.head, self.modification
        assert modification is not None
        losses: dict[str, Tensor] = {}
        for name in self.order:
            feature, step = features[name], HeadStep(name, batch["label"])
            step.add_features(feature)

            def losses_of(
                chunk: Batch, name: str = name, at: Tensor = feature
            ) -> dict[str, Tensor]:
                return {name: cross_entropy(head(at), chunk["label"])}

            edit = partial(modification.edit_gradient, head, step)
            losses |= self.step_on(batch, losses_of, edit_grads=edit)
            with self.full_precision():
                modification.after_step(head, step)
        return losses


def peak(all_first: bool) -> float:
    """Train ResNets for two batches; returns the peak in MB."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(Path(folder) / "run", *RESNETS, "trainer.max_epochs=1")
        if all_first:
            setup.module.__class__ = AllFirst
        loader = Watched([audio_visual(BATCH), audio_visual(BATCH), audio_visual(2)])
        setup.trainer.fit(setup.module, loader, Ready([audio_visual(2)]))
    return loader.peaks[-1]


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
