"""P26: the memory of an import of arrays, which must not grow with them."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import Measurement, call_in_new_process
from mla_lightning.cli.main import main

NUM_SAMPLES, WIDTHS, TARGET_MB = 50_000, (300, 500, 768), 400
PROCEDURE = (
    f"Peak resident memory (imports included) of `mla data import` in a new process, of an .npz "
    f"file of {NUM_SAMPLES:,} samples with float32 features of {', '.join(map(str, WIDTHS))} "
    "values and ids in random order, which the store sorts; compressed, and not"
)


def measure() -> list[Measurement]:
    """Measure imports of the same arrays, compressed and not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_arrays(folder)
        peaks = {
            form: call_in_new_process("imports.peak_mb", str(file), str(folder / form))
            for form, file in files.items()
        }
        file_mb = files["plain"].stat().st_size / 2**20
    detail = f"{file_mb:.0f} MB of arrays; compressed: {peaks['compressed']:.0f} MB"
    title = "memory of an import of arrays"
    return [Measurement("P26", title, max(peaks.values()), TARGET_MB, "MB", PROCEDURE, detail)]


def write_arrays(folder: Path) -> dict[str, Path]:
    """Write the arrays; return form -> file."""
    rng = np.random.default_rng(0)
    arrays = {
        f"features{width}": rng.normal(size=(NUM_SAMPLES, width)).astype(np.float32)
        for width in WIDTHS
    }
    arrays["label"] = rng.integers(0, 5, NUM_SAMPLES)
    arrays["id"] = np.array([f"{number:06d}" for number in rng.permutation(NUM_SAMPLES)])
    np.savez(folder / "plain.npz", **arrays)
    np.savez_compressed(folder / "compressed.npz", **arrays)
    return {form: folder / f"{form}.npz" for form in ("plain", "compressed")}


def peak_mb(file: str, target: str) -> float:
    """Import arrays; return the peak in MB."""
    with contextlib.redirect_stdout(io.StringIO()):
        code = main(["data", "import", file, f"target={target}"])
    if code:
        raise RuntimeError(f"mla data import ended with code {code}")
    # Not ru_maxrss: that of a new process begins with the memory of the one that started it.
    (line,) = [
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) / 1024
