"""P12: writing a checkpoint that is complete, on the disk and has a checksum."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from benchmarks.measure import Measurement, median_seconds
from benchmarks.setups import RESNETS, Setup
from mla_lightning.callbacks.checkpoint_io import CheckedCheckpointIO

PROCEDURE = (
    "Wall time of writing the weights and the momentum of two ResNet-18 with fsync, rename and "
    "SHA-256, against torch.save to the same folder, in turn; medians of 7"
)


def measure() -> list[Measurement]:
    """Measure both ways to write a checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoders = Setup(folder / "run", *RESNETS).module.encoders.state_dict()
        content = {
            "state_dict": encoders,
            "momentum": {name: torch.zeros_like(value) for name, value in encoders.items()},
        }
        writer = CheckedCheckpointIO()
        seconds = median_seconds(
            {
                "plain": lambda: torch.save(content, folder / "plain.pt"),
                "checked": lambda: writer.save_checkpoint(content, folder / "checked.ckpt"),
            },
            7,
            clock=time.perf_counter,
        )
        size = (folder / "checked.ckpt").stat().st_size / 1e6
    ratio = seconds["checked"] / seconds["plain"]
    detail = f"{seconds['plain'] * 1e3:.0f} → {seconds['checked'] * 1e3:.0f} ms, {size:.0f} MB"
    return [Measurement("P12", "checkpoint / plain torch.save", ratio, 2.0, "x", PROCEDURE, detail)]
