"""P12: writing a checkpoint that is complete, on the disk and has a checksum."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from benchmarks.measure import Row, interleaved
from benchmarks.setups import RESNETS, Setup
from mla_lightning.callbacks.checkpoint_io import CheckedCheckpointIO

HOW = (
    "Wall time of writing the weights and the momentum of two ResNet-18 with fsync, rename and "
    "SHA-256, against torch.save to the same folder, in turn; medians of 7"
)


def measure() -> list[Row]:
    """Measure both ways of writing."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Setup(Path(folder) / "run", *RESNETS).module.state_dict()
        weights.pop("modification.projectors")
        content = {
            "state_dict": weights,
            "momentum": {name: torch.zeros_like(value) for name, value in weights.items()},
        }
        writer = CheckedCheckpointIO()
        seconds = interleaved(
            {
                "plain": lambda: torch.save(content, Path(folder) / "plain.pt"),
                "ours": lambda: writer.save_checkpoint(content, Path(folder) / "ours.ckpt"),
            },
            7,
            clock=time.perf_counter,
        )
        size = (Path(folder) / "ours.ckpt").stat().st_size / 1e6
    detail = f"{seconds['plain'] * 1e3:.0f} → {seconds['ours'] * 1e3:.0f} ms, {size:.0f} MB"
    ratio = seconds["ours"] / seconds["plain"]
    return [Row("P12", "checkpoint / plain torch.save", ratio, 2.0, "x", HOW, detail)]
