"""P30: rows of a large store from the disk and from memory, and copies to a machine's disk."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Measurement, median_seconds
from mla_lightning.data.mapped import MappedArray, RowBlocks
from mla_lightning.data.scratch import copy_rows
from mla_lightning.data.splits import NamedSplit
from mla_lightning.data.store import OpenStore, open_store, write_store

NUM_ROWS, ROW_BYTES, BATCH_SIZE = 16_384, 16_384, 64
#: Batches that are read from the disk in each way, and copies in each way.
NUM_BATCHES, NUM_COPIES = 12, 3
MEGABYTES = NUM_ROWS * ROW_BYTES / 1e6
PROCEDURE_DISK = (
    f"Wall time of a batch of {BATCH_SIZE} random rows of {ROW_BYTES // 1024} KiB of a file of "
    f"{MEGABYTES:.0f} MB that is not in the page cache, requested together against one after the "
    f"other, in turn; medians of {NUM_BATCHES}; depends on the disk and its read-ahead"
)
PROCEDURE_MEMORY = "CPU time of such batches that are in the page cache, against a plain gather"
PROCEDURE_COPY = (
    f"Wall time of a copy of these {MEGABYTES:.0f} MB with data.scratch, which hashes them, "
    f"against shutil.copyfile with fsync, in turn; medians of {NUM_COPIES}"
)
PROCEDURE_START = "Wall time of finding and checking a complete copy, without reading its rows"


def measure() -> list[Measurement]:
    """Measure batches from the disk and from memory, the copy, and the start with a copy."""
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        folder = Path(name)
        store = _write_store(folder / "store")
        return [
            _from_disk(folder / "store" / "rows.npy"),
            _from_memory(folder / "store" / "rows.npy"),
            *_copies(store, folder),
        ]


def _write_store(folder: Path) -> OpenStore:
    block = np.random.default_rng(0).integers(0, 256, (1024, ROW_BYTES), dtype=np.uint8)
    write_store(
        folder,
        name="large",
        class_names=("a", "b"),
        ids=[f"{number:06d}" for number in range(NUM_ROWS)],
        label=np.arange(NUM_ROWS) % 2,
        arrays={
            "rows": RowBlocks(
                block.dtype,
                (NUM_ROWS, ROW_BYTES),
                lambda: (np.roll(block, number) for number in range(NUM_ROWS // 1024)),
            )
        },
        kinds={"rows": "features"},
        splits={"own": NamedSplit(np.arange(NUM_ROWS) % 3, "In turn.")},
    )
    return open_store(folder)


def _from_disk(path: Path) -> Measurement:
    times: dict[bool, list[float]] = {True: [], False: []}
    rng = np.random.default_rng(0)
    for number in range(2 * NUM_BATCHES):
        rows = torch.from_numpy(rng.choice(NUM_ROWS, BATCH_SIZE, replace=False))
        _forget(path)
        array = MappedArray(path)
        array._reads_ahead = number % 2 == 0
        start = time.perf_counter()
        array.index_select(0, rows)
        times[array._reads_ahead].append(time.perf_counter() - start)
    together, alone = (statistics.median(times[key]) for key in (True, False))
    title = "batch from the disk, requested together / row by row"
    detail = f"{alone * 1e3:.1f} → {together * 1e3:.1f} ms"
    return Measurement("P30", title, together / alone, 0.5, "x", PROCEDURE_DISK, detail)


def _forget(path: Path) -> None:
    """Remove a file that is not mapped from the page cache."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def _from_memory(path: Path) -> Measurement:
    array, plain = MappedArray(path), np.load(path, mmap_mode="r")
    plain.sum()  # reads the file
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, NUM_ROWS, BATCH_SIZE) for _ in range(50)]
    seconds = median_seconds(
        {
            "array": lambda: [array.index_select(0, torch.from_numpy(rows)) for rows in batches],
            "plain": lambda: [torch.from_numpy(plain[rows]) for rows in batches],
        },
        rounds=15,
    )
    ratio = seconds["array"] / seconds["plain"]
    title = "batch from memory, requested together / plain gather"
    detail = " → ".join(f"{seconds[key] / len(batches) * 1e6:.0f}" for key in ("plain", "array"))
    return Measurement("P30", title, ratio, 1.1, "x", PROCEDURE_MEMORY, f"{detail} µs")


def _copies(store: OpenStore, folder: Path) -> list[Measurement]:
    times: dict[str, list[float]] = {"copy": [], "plain": [], "again": []}

    def timed(key: str, scratch: Path) -> Path:
        start = time.perf_counter()
        copied = copy_rows(store, ["rows"], str(scratch))
        times[key].append(time.perf_counter() - start)
        return copied

    for number in range(NUM_COPIES):
        scratch, plain = folder / f"scratch{number}", folder / "plain.npy"
        copied = timed("copy", scratch)
        timed("again", scratch)
        start = time.perf_counter()
        shutil.copyfile(store.folder / "rows.npy", plain)
        with plain.open("rb+") as file:
            os.fsync(file.fileno())
        times["plain"].append(time.perf_counter() - start)
        plain.unlink()
        (copied / "rows.npy").unlink()
    copy_s, plain_s, again_s = (statistics.median(values) for values in times.values())
    detail = f"{plain_s:.2f} → {copy_s:.2f} s"
    return [
        Measurement(
            "P30", "copy to a disk / plain copy", copy_s / plain_s, 3.0, "x", PROCEDURE_COPY, detail
        ),
        Measurement("P30", "start with a copy", again_s * 1e3, 50, "ms", PROCEDURE_START),
    ]
