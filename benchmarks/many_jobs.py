"""P27: thousands of jobs in one sweep, composed and listed, taken and reported, and skipped."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time

from benchmarks.measure import Measurement, call_in_new_process

METHODS = (
    *("mla", "sum", "concat", "late_fusion", "film", "bigated", "ogm_ge", "qmf", "unimodal"),
    "majority",
)
#: Jobs -> largest CPU seconds to compose, check and list them.
LISTED = {100: 3.0, 1000: 5.0, 5000: 10.0}
#: Largest memory of 5,000 jobs, in MB, and of what of it is beyond that of one job.
MAX_MEMORY_MB, MAX_GROWTH_MB = 300.0, 50.0
#: Numbers of jobs whose costs per job are compared.
FEW, MANY = 1000, 10_000
PROCEDURE = (
    f"CPU time of `mla train -m --dry-run data=openmoji`, {len(METHODS)} methods and the seeds "
    "that give the number of jobs, from command to prompt, imports included"
)
PROCEDURE_MEMORY = "Peak resident memory of the largest of these commands"
PROCEDURE_GROWTH = "The same, less that of the command with one job"
#: The command, which fails if it imports what the login node of a cluster need not have.
PROGRAM = """
import sys
from mla_lightning.cli.main import main
code = main(sys.argv[1:])
with open("/proc/self/status") as status:
    peak_kb = next(line.split()[1] for line in status if line.startswith("VmHWM"))
sys.stderr.write(peak_kb)
heavy = {"torch", "lightning", "transformers", "torchmetrics"} & sys.modules.keys()
sys.exit(code or (f"imported: {sorted(heavy)}" if heavy else 0))
"""
PROCEDURE_BOARD = (
    f"CPU time of a sweep of {MANY} jobs with launcher=serial, divided by the number of jobs, "
    f"against that of {FEW} jobs; the job function only writes a copy of a trained run's result"
)
PROCEDURE_SKIP = "CPU time of starting the same sweep again, without composing its jobs"


def measure() -> list[Measurement]:
    """Measure the listing of many jobs, the reports of a sweep, and the skipping."""
    rows = []
    _, of_one = list_jobs(1, 1)
    for number, target in LISTED.items():
        seconds, memory_mb = list_jobs(len(METHODS), number // len(METHODS))
        title = f"compose, check and list {number:,} jobs"
        detail = f"{memory_mb:.0f} MB, {of_one:.0f} MB for one job"
        rows.append(Measurement("P27", title, seconds, target, "s", PROCEDURE, detail))
    title = f"... memory, {number:,} jobs, without torch"
    rows.append(Measurement("P27", title, memory_mb, MAX_MEMORY_MB, "MB", PROCEDURE_MEMORY))
    title, value = f"... memory beyond that of one job, {number:,} jobs", memory_mb - of_one
    rows.append(Measurement("P27", title, value, MAX_GROWTH_MB, "MB", PROCEDURE_GROWTH))
    (few_s, _), (many_s, skip_s) = (
        call_in_new_process("many_jobs.time_sweeps", number) for number in (FEW, MANY)
    )
    few_ms, many_ms = few_s / FEW * 1e3, many_s / MANY * 1e3
    title = f"sweep, cost of a job among {MANY:,} / among {FEW:,}"
    detail = f"{few_ms:.2f} → {many_ms:.2f} ms"
    rows.append(Measurement("P27", title, many_ms / few_ms, 1.3, "x", PROCEDURE_BOARD, detail))
    title = f"skip {MANY:,} finished jobs"
    return [*rows, Measurement("P27", title, skip_s, 5.0, "s", PROCEDURE_SKIP)]


def list_jobs(num_methods: int, num_seeds: int) -> tuple[float, float]:
    """List jobs in a process of its own; return CPU seconds and peak memory in MB."""
    command = [sys.executable, "-c", PROGRAM, "train", "-m", "--dry-run"]
    command += ["data=openmoji", f"method={','.join(METHODS[:num_methods])}"]
    with tempfile.TemporaryDirectory() as name:
        words = [f"seed=range({num_seeds})", f"paths.output_dir={name}"]
        pipe = subprocess.PIPE
        process = subprocess.Popen([*command, *words], stdout=subprocess.DEVNULL, stderr=pipe)
        assert process.stderr is not None
        text = process.stderr.read().decode()
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"mla train --dry-run ended with {process.returncode}: {text}")
    # ru_maxrss would be that of this process if it is larger: it passes through fork and exec
    return used.ru_utime + used.ru_stime, int(text.split()[-1]) / 2**10


def time_sweeps(num_jobs: int) -> tuple[float, float]:
    """Run a sweep of jobs that only write a result, and again; return CPU seconds of both."""
    from mla_lightning.config import Job, compose_jobs
    from mla_lightning.launchers.serial import SerialLauncher
    from mla_lightning.launchers.sweep import run_sweep
    from mla_lightning.run.train import run_job
    from mla_lightning.run_folder import PROVENANCE, RESULT, read_json

    def write_result(job: Job) -> int:
        own = {"identity": job.identity, "seed": job.config.seed}
        for name, content in ((RESULT, result), (PROVENANCE, provenance)):
            (job.run_dir / name).write_text(json.dumps({**content, **own}))  # no wait for the disk
        return 0

    def time_sweep() -> float:
        start = time.process_time()
        if code := run_sweep(jobs, SerialLauncher(job_function=write_result)):
            raise RuntimeError(f"the sweep ended with exit code {code}")
        return time.process_time() - start

    words = ["data=synthetic", "method=majority", f"seed=range({num_jobs})"]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        jobs = compose_jobs([*words, f"paths.output_dir={folder}"], multirun=True)
        run_job(jobs[0])
        result = read_json(jobs[0].run_dir / RESULT) or {}
        provenance = read_json(jobs[0].run_dir / PROVENANCE) or {}
        return time_sweep(), time_sweep()
