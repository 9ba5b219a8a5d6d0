"""What makes two jobs one: their config, their data and the code that computes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

#: Keys that say where and how comfortably a job runs, not what it computes.
NOT_IDENTITY = (
    "logger",
    "launcher",
    "paths",
    "grid",
    "name",
    "overwrite",
    "run_dir",
    "force_resume",
)
#: Settings of the data that change no number.
ELSEWHERE = ("path", "num_workers")
#: Parts of the package that cannot change a number that training writes.
NOT_TRAINING = (
    *("report", "config", "launchers", "cli.py", "cli_data.py", "cli_report.py", "sweep.py"),
    *("loggers.py", "wandb_evidence.py", "wandb_send.py"),
    *("prepare", "media"),  # what they make is in the data's fingerprint
)


@cache
def code_fingerprint() -> str:
    """Hash the package's sources that can change a number.

    Returns:
        SHA-256 over every Python file of the package outside ``NOT_TRAINING``, as hex.
    """
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        if relative.parts[0] not in NOT_TRAINING:
            digest.update(relative.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def identity_of(config: Mapping[str, Any], data_fingerprint: str) -> str:
    """Hash what determines a run's numbers: config, data and code.

    Args:
        config: The resolved config as plain containers.
        data_fingerprint: The data module's fingerprint.

    Returns:
        SHA-256 as hex. Two jobs with one identity are one job.
    """
    kept = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    kept["trainer"] = {k: v for k, v in config.get("trainer", {}).items() if k != "progress_bar"}
    # Where a store lies is not what it holds, which the fingerprint tells.
    kept["data"] = {k: v for k, v in config.get("data", {}).items() if k not in ELSEWHERE}
    text = json.dumps([kept, data_fingerprint, code_fingerprint()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
