"""P23: the cost of giving freed memory back to the system during training."""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import tempfile
from pathlib import Path

from benchmarks.measure import Measurement, call_in_new_process, cpu_clock
from mla_lightning.cli.main import main
from mla_lightning.run import train as run_train

TARGET = 1.0
WORDS = (
    "train",
    "data=synthetic",
    "data.num_train=20000",
    "data.num_features=1024",
    "data.batch_size=512",
    "trainer.max_epochs=4",
)
PROCEDURE = (
    "Process CPU time of whole runs (20,000 samples of two modalities of 1024 features, batch 512, "
    "four epochs, evaluation) with freed memory kept, as training sets glibc, against glibc's "
    "defaults; each run in a forked process, in turn. Small batches, such as OpenMoji's, "
    "take the same time with both"
)


def measure() -> list[Measurement]:
    """Measure runs with and without the settings, in forks of a new process."""
    kept, default = call_in_new_process("allocator.compare", 5)
    detail = f"{default:.2f} → {kept:.2f} s"
    title = "freed memory kept / glibc's defaults, 20,000 samples, batch 512"
    return [Measurement("P23", title, kept / default, TARGET, "x", PROCEDURE, detail)]


def compare(rounds: int, *words: str) -> tuple[float, float]:
    """Train in forked processes, in turn with and without the settings.

    Args:
        rounds: Number of runs of each kind.
        *words: More words of the command; the last one of a key counts.

    Returns:
        Median CPU seconds with the settings, and without.
    """
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(rounds):
        for is_kept, times in seconds.items():
            times.append(_train(is_kept, words))
    return statistics.median(seconds[True]), statistics.median(seconds[False])


def _train(is_kept: bool, words: tuple[str, ...]) -> float:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        if not is_kept:
            run_train.keep_freed_memory = lambda: False
        start = cpu_clock()
        with tempfile.TemporaryDirectory() as folder:
            by_key = {word.partition("=")[0]: word for word in (*WORDS, *words)}
            with contextlib.redirect_stdout(io.StringIO()):
                code = main([*by_key.values(), f"run_dir={Path(folder) / 'run'}"])
        os.write(writer, f"{cpu_clock() - start} {code}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        seconds, code = pipe.read().split()
    os.waitpid(pid, 0)
    assert code == "0", "the run failed"
    return float(seconds)
