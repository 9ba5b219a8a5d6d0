"""P24, P25: reports of 2000 runs, the first and again."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Measurement, call_in_new_process

METHODS = ("mla", "sum", "concat", "late_fusion", "film", "bigated", "ogm_ge", "qmf", "unimodal")
EXPERIMENTS = ("table1/synthetic", "mine/a", "mine/b", "mine/c")
NUM_RUNS = 2000
#: Report -> largest seconds of the first and of the second call, on two quiet cores.
TARGETS = {"page": (20.0, 5.0), "runs": (5.0, 4.0)}
MAX_MEMORY_MB = 400.0
PROCEDURE = (
    f"Wall time, on two quiet cores, of `mla report` over {NUM_RUNS} run folders with "
    f"diagnostics: {len(METHODS)} methods trained once with diagnostics=epoch and copied with "
    f"other seeds and names of experiments, {len(EXPERIMENTS)} experiments"
)
PROCEDURE_MEMORY = "Peak memory of all processes of the first of these calls, shared pages once"
#: Seconds between two looks at the memory.
INTERVAL_S = 0.1


def measure() -> list[Measurement]:
    """Measure the time of a first and a second report of many runs, and their memory."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "runs"
        call_in_new_process("reports.write_runs", str(folder), NUM_RUNS)
        for kind, targets in TARGETS.items():
            (folder / ".read.json").unlink(missing_ok=True)
            for word, target in zip(("first", "again"), targets, strict=True):
                seconds, cpu_s, memory_mb = call_in_new_process(
                    "reports.time_report", kind, str(folder), str(Path(name) / "report")
                )
                title = f"report {kind} of {NUM_RUNS} runs, {word}"
                detail = f"{cpu_s:.1f} s of CPU time"
                rows.append(Measurement("P24", title, seconds, target, "s", PROCEDURE, detail))
                if word == "first":
                    title = f"report {kind} of {NUM_RUNS} runs, memory"
                    limit = MAX_MEMORY_MB
                    rows.append(Measurement("P25", title, memory_mb, limit, "MB", PROCEDURE_MEMORY))
    return rows


def time_report(kind: str, folder: str, output: str) -> tuple[float, float, float]:
    """Make a report in a process of its own; return wall and CPU seconds, and peak memory in MB."""
    command = [str(Path(sys.executable).with_name("mla")), "report", kind, folder]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--output", output], stdout=subprocess.DEVNULL)
    memory_mb = 0.0
    while process.poll() is None:
        memory_mb = max(memory_mb, _memory_mb(process.pid))
        time.sleep(INTERVAL_S)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"mla report {kind} ended with exit code {process.returncode}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, used.ru_utime + used.ru_stime, memory_mb


def _memory_mb(pid: int) -> float:
    """Return the memory of a process and of those that it started, pages they share counted once.

    Linux divides a shared page among its processes in the number "Pss".
    """
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it ended
        return 0.0
    own = next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return own / 2**10 + sum(_memory_mb(int(child)) for child in children)


def write_runs(root: str, num_runs: int) -> int:
    """Write run folders: real runs, one per method, copied with other seeds and experiments.

    Args:
        root: The folder to write to.
        num_runs: Number of run folders.

    Returns:
        The number of run folders.
    """
    import yaml

    from mla_lightning.identity import identity_of
    from mla_lightning.run_folder import CONFIG, PROVENANCE, RESULT, read_json, write_json
    from mla_lightning.run_folder.integrity import seal
    from mla_lightning.run_folder.reader import RunFiles
    from mla_lightning.run_folder.result import CHECKSUM, checksum_of

    with _trained() as templates:
        for number in range(num_runs):
            template = templates[number % len(templates)]
            rest = number // len(templates)
            name, seed = EXPERIMENTS[rest % len(EXPERIMENTS)], rest // len(EXPERIMENTS)
            config = {**RunFiles(template).tree, "name": name, "seed": seed}
            provenance = RunFiles(template).provenance
            identity = identity_of(config, provenance["data_fingerprint"])
            method = config["choices"]["method"]
            folder = Path(root) / name / f"synthetic-{method}-seed{seed}-{identity[:10]}"
            folder.mkdir(parents=True)
            for path in template.iterdir():
                if path.is_file():
                    shutil.copyfile(path, folder / path.name)
            (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))
            write_json(folder / PROVENANCE, {**provenance, "identity": identity, "seed": seed})
            result = {**(read_json(folder / RESULT) or {}), "identity": identity}
            result |= {"name": name, "seed": seed, "files": seal(folder)}
            write_json(folder / RESULT, {**result, CHECKSUM: checksum_of(result)})
    return num_runs


@contextmanager
def _trained() -> Iterator[list[Path]]:
    """Train each method once, in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        command = [str(Path(sys.executable).with_name("mla")), "train", "-m", "data=synthetic"]
        command += [f"method={','.join(METHODS)}", "diagnostics=epoch", "launcher=serial"]
        command += [f"paths.output_dir={name}"]
        subprocess.run(command, check=True, capture_output=True, env=dict(os.environ))
        yield sorted(path.parent for path in Path(name).rglob("result.json"))
