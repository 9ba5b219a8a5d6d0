"""P1 to P3: the step of two ResNet-18 under Lightning against the bare loop."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Row
from benchmarks.setups import RESNETS, Bare, Ready, Setup, as_written_by_hand, audio_visual

BATCH = 16
THREADS = min(2, os.cpu_count() or 1)
clock = time.perf_counter
HOW = (
    f"One Trainer.fit as training builds it, {THREADS} threads, batch {BATCH}, audio 1x257x299 and "
    "video 3x3x224x224; before each batch the bare float32 loop with contiguous memory takes the "
    "same batch; ratio of the medians of wall time"
)


class Beside(Ready):
    """Runs the bare loop between two batches of a Trainer and times both."""

    def __init__(self, bare: Bare, rounds: int) -> None:
        """Draw the batches; a small one before warms up, a small one after ends the last."""
        super().__init__([audio_visual(2), *[audio_visual(BATCH)] * rounds, audio_visual(2)])
        self.bare = bare
        self.bare_times: list[float] = []
        self.trainer_times: list[float] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches."""
        for batch in self.batches:
            with as_written_by_hand():
                begin = clock()
                self.bare(batch)
                self.bare_times.append(clock() - begin)
            begin = clock()
            yield batch
            self.trainer_times.append(clock() - begin)

    def medians(self) -> tuple[float, float]:
        """Tell the seconds of the bare loop and of the Trainer, small batches left out."""
        bare, trainer = self.bare_times[1:-1], self.trainer_times[1:]
        return statistics.median(bare), statistics.median(trainer)


def measure() -> list[Row]:
    """Measure the default in both memory layouts and the fast preset."""
    layout = [f"encoder.{name}.channels_last=false" for name in ("audio", "visual")]
    cases = (
        ("P1", "ResNet step, Lightning / bare, contiguous", 1.03, layout, 4),
        ("P2", "ResNet step, channels_last / bare", 0.80, [], 6),
        ("P3", "ResNet step, trainer=fast / bare", 0.45, ["trainer=fast"], 4),
    )
    rows = []
    bare = None
    for number, what, limit, overrides, rounds in cases:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            setup = Setup(Path(folder) / "run", *RESNETS, "trainer.max_epochs=1", *overrides)
            torch.set_num_threads(THREADS)
            bare = bare or setup.bare()
            loader = Beside(bare, rounds)
            setup.trainer.fit(setup.module, loader, Ready([audio_visual(2)]))
        reference, ours = loader.medians()
        detail = f"{reference * 1e3:.0f} → {ours * 1e3:.0f} ms, {rounds} batches"
        rows.append(Row(number, what, ours / reference, limit, "x", HOW, detail))
    return rows
