"""P8, P9: many small jobs on two cores, and one that is killed."""

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

from benchmarks.measure import Measurement, call_in_new_process

METHODS = ("mla", "sum", "concat", "late_fusion", "film", "bigated", "ogm_ge", "qmf")
SEEDS = (0, 1, 2)
NUM_JOBS = len(METHODS) * len(SEEDS)
NUM_SINGLE = 6
WORKERS = 2
NUM_JOBS_WITH_KILL = 6
PROCEDURE = (
    f"Wall time of `mla train -m` over {NUM_JOBS} jobs (8 methods x 3 seeds, synthetic data) from "
    f"command to prompt, {WORKERS} at a time, against `mla train` in a process each, {WORKERS} at "
    f"a time: {NUM_SINGLE} of them, half before and half after, scaled to {NUM_JOBS}"
)
PROCEDURE_KILL = (
    f"A sweep of {NUM_JOBS_WITH_KILL} jobs with the fork launcher, one of which kills itself with "
    "SIGKILL when it starts; jobs without a result afterwards"
)


def measure() -> list[Measurement]:
    """Measure the time of a sweep, and how many jobs are lost when one is killed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        single_s = train_one_by_one(folder / "a", METHODS[: NUM_SINGLE // 2])
        start = time.perf_counter()
        methods, seeds = ",".join(METHODS), ",".join(map(str, SEEDS))
        train(
            folder / "sweep",
            *("-m", f"method={methods}", f"seed={seeds}", f"launcher.jobs={WORKERS}"),
        )
        sweep_s = time.perf_counter() - start
        finished = len(list((folder / "sweep").rglob("result.json")))
        if finished != NUM_JOBS:
            raise RuntimeError(f"only {finished} of {NUM_JOBS} jobs have a result")
        single_s += train_one_by_one(folder / "b", METHODS[NUM_SINGLE // 2 : NUM_SINGLE])
        num_lost = call_in_new_process("sweeps.count_lost_jobs", str(folder / "killed"))
    single_s *= NUM_JOBS / NUM_SINGLE
    title = f"{NUM_JOBS} jobs in one sweep / in a process each"
    detail = f"{single_s:.0f} → {sweep_s:.1f} s"
    return [
        Measurement("P8", title, sweep_s / single_s, 1 / 8, "x", PROCEDURE, detail),
        Measurement("P9", "jobs lost when one is killed", num_lost, 1, "jobs", PROCEDURE_KILL),
    ]


def train(output: Path, *words: str) -> None:
    """Run ``mla train`` on synthetic data."""
    command = [str(Path(sys.executable).with_name("mla")), "train", *words]
    command += ["data=synthetic", f"paths.output_dir={output}"]
    subprocess.run(command, check=True, capture_output=True)


def train_one_by_one(output: Path, methods: tuple[str, ...]) -> float:
    """Train each method in a process of its own, two at a time; return the wall seconds."""
    start = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda method: train(output, f"method={method}"), methods))
    return time.perf_counter() - start


def count_lost_jobs(output: str) -> int:
    """Run a sweep in which one job is killed; return the number of jobs without a result."""
    from mla_lightning.config import Job, compose_jobs
    from mla_lightning.launchers.fork import ForkLauncher
    from mla_lightning.launchers.sweep import run_sweep
    from mla_lightning.run.train import run_job

    def run_or_die(job: Job) -> int:
        if job.config.seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return run_job(job)

    seeds = ",".join(str(seed) for seed in range(NUM_JOBS_WITH_KILL))
    jobs = compose_jobs(
        ["data=synthetic", f"seed={seeds}", f"paths.output_dir={output}"], multirun=True
    )
    with contextlib.redirect_stdout(io.StringIO()):
        run_sweep(jobs, ForkLauncher(jobs=WORKERS, job_function=run_or_die))
    return len(jobs) - len(list(Path(output).rglob("result.json")))
