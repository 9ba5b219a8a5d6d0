"""P22: what diagnostics cost."""

from __future__ import annotations

import contextlib
import io
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.measure import Row, interleaved
from mla_lightning.cli.main import main

LIMIT = 1.25
EPOCHS = 8
HOW = (
    "Process CPU time of whole runs of MLA on OpenMoji (977 training samples, eight epochs, probe, "
    "evaluation) with diagnostics=epoch against diagnostics=off, in turn; what they cost does not "
    "grow with the training set"
)


def measure() -> list[Row]:
    """Measure whole runs.

    Returns:
        The row.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = {mode: partial(_run, Path(folder), mode) for mode in ("off", "epoch")}
        seconds = interleaved(runs, rounds=3)
    off, epoch = seconds["off"], seconds["epoch"]
    detail = f"{off:.1f} → {epoch:.1f} s"
    return [Row("P22", "diagnostics=epoch / off", epoch / off, LIMIT, "x", HOW, detail)]


def _run(folder: Path, mode: str) -> None:
    words = ["train", "method=mla", "data=openmoji", f"trainer.max_epochs={EPOCHS}"]
    words += [f"diagnostics={mode}", f"run_dir={folder / mode}", "overwrite=true"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(words) == 0
