"""P10: start-up time of commands that only print something."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import Measurement

MLA = str(Path(sys.executable).with_name("mla"))
COMMANDS = {
    "mla --help": [MLA, "--help"],
    "mla list methods": [MLA, "list", "methods"],
    "mla train --cfg": [MLA, "train", "--cfg"],
    "mla train --dry-run": [MLA, "train", "--dry-run"],
    "import mla_lightning": [sys.executable, "-c", "import mla_lightning"],
}
#: Largest wall seconds of a command; of one that also checks a job.
MAX_S, MAX_CHECK_S = 0.6, 1.0
PROCEDURE = "Wall time of the command, smallest of five, the commands in turn"
PROCEDURE_TORCH = "Each of the five in an interpreter of its own; those that import torch count"


def measure() -> list[Measurement]:
    """Measure each command's time, and how many load torch."""
    fastest = dict.fromkeys(COMMANDS, float("inf"))
    for _ in range(5):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            fastest[name] = min(fastest[name], time.perf_counter() - start)
    rows = [
        Measurement("P10", name, seconds, MAX_CHECK_S if "dry" in name else MAX_S, "s", PROCEDURE)
        for name, seconds in fastest.items()
    ]
    count = sum(_loads_torch(command[1:]) for command in COMMANDS.values())
    return [*rows, Measurement("P10", "of these, loading torch", count, 0, "of 5", PROCEDURE_TORCH)]


def _loads_torch(words: list[str]) -> bool:
    statement = f"main({words!r})" if words[0] != "-c" else words[1]
    code = (
        f"import sys\nfrom mla_lightning.cli.main import main\n{statement}\n"
        "sys.exit('torch' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    if process.returncode not in (0, 1):
        raise RuntimeError(f"{words} failed:\n{process.stderr.decode()[-2000:]}")
    return process.returncode == 1
