"""P1 to P3: the step of two ResNet-18 under Lightning against a bare loop."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Measurement
from benchmarks.setups import (
    RESNETS,
    BareLoop,
    BatchList,
    Setup,
    draw_audio_visual_batch,
    nondeterministic_algorithms,
)

BATCH_SIZE = 16
THREADS = min(2, os.cpu_count() or 1)
clock = time.perf_counter
PROCEDURE = (
    f"One Trainer.fit as training builds it, {THREADS} threads, batch {BATCH_SIZE}, audio "
    "1x257x299 and video 3x3x224x224; before each batch the bare float32 loop with contiguous "
    "memory takes the same batch; ratio of the medians of wall time"
)


class ComparingLoader(BatchList):
    """A loader that runs the bare loop before each batch of a Trainer, and times both."""

    def __init__(self, bare_loop: BareLoop, rounds: int, batch_size: int = BATCH_SIZE) -> None:
        """Draw the batches: a small one to warm up, and a small one to end the last.

        Args:
            bare_loop: The bare loop.
            rounds: Number of measured batches.
            batch_size: Samples of a measured batch.
        """
        small, batch = draw_audio_visual_batch(2), draw_audio_visual_batch(batch_size)
        super().__init__([small, *[batch] * rounds, draw_audio_visual_batch(2)])
        self.bare_loop = bare_loop
        self.bare_times: list[float] = []
        self.trainer_times: list[float] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches."""
        for batch in self.batches:
            with nondeterministic_algorithms():
                start = clock()
                self.bare_loop(batch)
                self.bare_times.append(clock() - start)
            start = clock()
            yield batch
            self.trainer_times.append(clock() - start)

    def medians(self) -> tuple[float, float]:
        """Return the median seconds of the bare loop and the Trainer, small batches left out."""
        bare, trainer = self.bare_times[1:-1], self.trainer_times[1:]
        return statistics.median(bare), statistics.median(trainer)


def measure() -> list[Measurement]:
    """Measure the default in both memory layouts and the fast preset."""
    layout = [f"encoder.{name}.channels_last=false" for name in ("audio", "visual")]
    cases = (
        ("P1", "ResNet step, Lightning / bare, contiguous", 1.03, layout, 12),
        ("P2", "ResNet step, channels_last / bare", 0.80, [], 12),
        ("P3", "ResNet step, trainer=fast / bare", 0.45, ["trainer=fast"], 12),
    )
    rows = []
    bare_loop = None
    for number, title, target, overrides, rounds in cases:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            setup = Setup(Path(folder) / "run", *RESNETS, "trainer.max_epochs=1", *overrides)
            torch.set_num_threads(THREADS)
            bare_loop = bare_loop or setup.bare_loop()
            bare, trainer = time_steps(setup, bare_loop, rounds)
        detail = f"{bare * 1e3:.0f} → {trainer * 1e3:.0f} ms, {rounds} batches"
        rows.append(Measurement(number, title, trainer / bare, target, "x", PROCEDURE, detail))
    return rows


def time_steps(
    setup: Setup, bare_loop: BareLoop, rounds: int, batch_size: int = BATCH_SIZE
) -> tuple[float, float]:
    """Train for some batches; return the median seconds of the bare loop and of the Trainer."""
    loader = ComparingLoader(bare_loop, rounds, batch_size)
    setup.trainer.fit(setup.module, loader, BatchList([draw_audio_visual_batch(2)]))
    return loader.medians()
