"""P10: commands that only show something start at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import Row

MLA = str(Path(sys.executable).with_name("mla"))
COMMANDS = {
    "mla --help": [MLA, "--help"],
    "mla list methods": [MLA, "list", "methods"],
    "mla train --cfg": [MLA, "train", "--cfg"],
    "import mla_lightning": [sys.executable, "-c", "import mla_lightning"],
}
HOW = "Wall time of the command, best of five, the commands in turn"
HOW_TORCH = "The four in an interpreter each, counting those that have torch among their modules"


def measure() -> list[Row]:
    """Measure each command's time, and whether it loads torch."""
    best = dict.fromkeys(COMMANDS, float("inf"))
    for _ in range(5):
        for name, command in COMMANDS.items():
            begin = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            best[name] = min(best[name], time.perf_counter() - begin)
    rows = [Row("P10", name, seconds, 0.6, "s", HOW) for name, seconds in best.items()]
    loaded = sum(_loads_torch(command[1:]) for command in COMMANDS.values())
    return [*rows, Row("P10", "of these, that load torch", loaded, 0, "of 4", HOW_TORCH)]


def _loads_torch(words: list[str]) -> bool:
    run = f"main({words!r})" if words[0] != "-c" else words[1]
    code = (
        f"import sys\nfrom mla_lightning.cli.main import main\n{run}\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{words} failed:\n{done.stderr.decode()[-2000:]}")
    return done.returncode == 1
