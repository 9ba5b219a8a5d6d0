"""P8, P9: many small cells on two cores, and one of them killed."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.measure import Row, fresh

METHODS = ("mla", "sum", "concat", "late_fusion", "film", "bigated", "ogm_ge", "qmf")
SEEDS = (0, 1, 2)
CELLS = len(METHODS) * len(SEEDS)
ALONE = 6
WORKERS = 2
KILLED_CELLS = 6
HOW = (
    f"Wall time of `mla train -m` over {CELLS} cells (8 methods x 3 seeds, synthetic data) from "
    f"command to prompt, {WORKERS} at a time, against `mla train` in a process each, {WORKERS} at "
    f"a time: {ALONE} of them, half before and half after, scaled to {CELLS}"
)
HOW_KILLED = (
    f"A sweep of {KILLED_CELLS} cells with the fork launcher, one of which kills itself with "
    "SIGKILL when it starts; cells without a result afterwards"
)


def measure() -> list[Row]:
    """Measure the time of a sweep and the loss by a killed cell."""
    with tempfile.TemporaryDirectory() as folder:
        alone = one_by_one(Path(folder) / "a", METHODS[: ALONE // 2])
        begin = time.perf_counter()
        methods, seeds = ",".join(METHODS), ",".join(map(str, SEEDS))
        mla(
            Path(folder) / "sweep",
            *("-m", f"method={methods}", f"seed={seeds}", f"launcher.jobs={WORKERS}"),
        )
        together = time.perf_counter() - begin
        finished = len(list((Path(folder) / "sweep").rglob("result.json")))
        if finished != CELLS:
            raise RuntimeError(f"only {finished} of {CELLS} cells have a result")
        alone += one_by_one(Path(folder) / "b", METHODS[ALONE // 2 : ALONE])
        lost = fresh("sweeps.lost_by_a_kill", str(Path(folder) / "killed"))
    alone *= CELLS / ALONE
    what = f"{CELLS} cells in one sweep / in a process each"
    detail = f"{alone:.0f} → {together:.1f} s"
    return [
        Row("P8", what, together / alone, 1 / 8, "x", HOW, detail),
        Row("P9", "cells lost when one is killed", lost, 1, "cells", HOW_KILLED),
    ]


def mla(output: Path, *words: str) -> None:
    """Train with the command line, one thread a job."""
    command = [str(Path(sys.executable).with_name("mla")), "train", *words]
    command += ["data=synthetic", f"paths.output_dir={output}"]
    subprocess.run(command, check=True, capture_output=True)


def one_by_one(output: Path, methods: tuple[str, ...]) -> float:
    """Train each method in a process of its own, two at a time; returns wall seconds."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda method: mla(output, f"method={method}"), methods))
    return time.perf_counter() - begin


def lost_by_a_kill(output: str) -> int:
    """Run a sweep in which one cell is killed; returns the number of cells without result."""
    from mla_lightning.config import Job, compose_jobs
    from mla_lightning.launchers.fork import ForkLauncher
    from mla_lightning.launchers.sweep import run_sweep
    from mla_lightning.run.train import run_job

    def run(job: Job) -> int:
        if job.config["seed"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return run_job(job)

    seeds = ",".join(str(seed) for seed in range(KILLED_CELLS))
    jobs = compose_jobs(
        ["data=synthetic", f"seed={seeds}", f"paths.output_dir={output}"], multirun=True
    )
    with contextlib.redirect_stdout(io.StringIO()):
        run_sweep(jobs, ForkLauncher(jobs=WORKERS, job_function=run))
    return len(jobs) - len(list(Path(output).rglob("result.json")))
