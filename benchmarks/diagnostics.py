"""P22: the cost of diagnostics."""

from __future__ import annotations

import contextlib
import io
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.measure import Measurement, median_seconds
from mla_lightning.cli.main import main

TARGET = 1.2
NUM_EPOCHS = 8
PROCEDURE = (
    "Process CPU time of whole runs of MLA on OpenMoji (977 training samples, eight epochs, probe, "
    "evaluation) with diagnostics=epoch against diagnostics=off, in turn; the cost does not grow "
    "with the training set"
)


def measure() -> list[Measurement]:
    """Measure whole runs with and without diagnostics."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {mode: partial(train, Path(folder), mode) for mode in ("off", "epoch")}
        seconds = median_seconds(runs, rounds=3)
    off, epoch = seconds["off"], seconds["epoch"]
    detail = f"{off:.1f} → {epoch:.1f} s"
    return [
        Measurement("P22", "diagnostics=epoch / off", epoch / off, TARGET, "x", PROCEDURE, detail)
    ]


def train(folder: Path, mode: str, num_epochs: int = NUM_EPOCHS) -> None:
    """Train MLA on OpenMoji in this process.

    Args:
        folder: Folder of the run folders.
        mode: ``off``, ``epoch`` or ``full``.
        num_epochs: Number of epochs.
    """
    words = ["train", "method=mla", "data=openmoji", f"trainer.max_epochs={num_epochs}"]
    words += [f"diagnostics={mode}", f"run_dir={folder / mode}", "overwrite=true"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(words) == 0
