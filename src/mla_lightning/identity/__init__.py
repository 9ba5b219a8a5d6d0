"""What makes two runs one, and which code made a run.

A run's identity is its config and its data. Its code is recorded beside its result, module by
module, so that a change of the code is noticed exactly where it is reached, and adding a method, a
data set or a comment changes nothing. The standard library is enough; nothing is imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: Keys that say where and how comfortably a job runs, or what is measured of it afterwards.
NOT_IDENTITY = (
    *("logger", "launcher", "paths", "grid", "name", "overwrite", "run_dir", "force_resume"),
    *("stale", "metrics"),
)
#: Settings of the data that change no number.
ELSEWHERE = ("path", "num_workers")


def identity_of(config: Mapping[str, Any], data_fingerprint: str) -> str:
    """Hash what a run is of: its resolved config and its data's content.

    Args:
        config: The resolved config as plain containers.
        data_fingerprint: The data module's fingerprint.

    Returns:
        SHA-256 as hex. Two jobs with one identity are one run.

    Example:
        >>> config = {"seed": 0, "trainer": {"threads": 1}, "data": {"path": "here"}}
        >>> elsewhere = {**config, "data": {"path": "there"}, "name": "mine"}
        >>> identity_of(config, "data") == identity_of(elsewhere, "data")
        True
        >>> identity_of(config, "data") == identity_of({**config, "seed": 1}, "data")
        False
    """
    content = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    content["trainer"] = {k: v for k, v in config.get("trainer", {}).items() if k != "progress_bar"}
    # Where a store lies is not what it holds, which the fingerprint says.
    content["data"] = {k: v for k, v in config.get("data", {}).items() if k not in ELSEWHERE}
    text = json.dumps([content, data_fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
