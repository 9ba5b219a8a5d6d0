"""Identity of a run, and the code that computed it.

A run's identity is a hash of its config and its data. The code is recorded with the result, as one
hash per module, so that a change of a module affects exactly those runs that import it. A new
method, a new data set or a changed comment affects no run. This package needs the standard library
alone and imports none of the modules that it hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: Top-level keys that change no number of a run: where it runs, how it is shown, and which metrics
#: are computed from its logits.
NOT_IDENTITY = (
    *("logger", "launcher", "paths", "grid", "name", "overwrite", "run_dir", "force_resume"),
    *("stale", "metrics"),
)
#: Settings that earlier versions did not have -> the value that means what these versions did.
ABSENT_BEFORE = {
    "select_by": "accuracy",
    "task": {},
    "loss": {"class_weights": None},
    "callbacks": {},
}
#: Settings of the data that change no number.
NOT_IDENTITY_OF_DATA = ("path", "num_workers", "scratch")
#: Settings of the data -> the value with which they are as if they were left out.
_OPTIONAL_OF_DATA = {"scale": None, "task": None, "held_out": 0}
#: Settings of an encoder, likewise.
_OPTIONAL_OF_ENCODERS = ("grid",)


def identity_of(config: Mapping[str, Any], data_fingerprint: str) -> str:
    """Hash a run's resolved config and the content of its data.

    Args:
        config: The resolved config as plain containers.
        data_fingerprint: The data module's fingerprint.

    Returns:
        SHA-256 in hex. Two jobs with the same identity are the same run.

    Example:
        >>> config = {"seed": 0, "trainer": {"threads": 1}, "data": {"path": "here"}}
        >>> elsewhere = {**config, "data": {"path": "there"}, "name": "mine"}
        >>> identity_of(config, "data") == identity_of(elsewhere, "data")
        True
        >>> identity_of(config, "data") == identity_of({**config, "seed": 1}, "data")
        False
    """
    content = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    for key, value in ABSENT_BEFORE.items():
        if content.get(key) == value:
            del content[key]
    content["trainer"] = _trainer_of_identity(config.get("trainer", {}))
    # The folder of a store is left out: the fingerprint stands for its content.
    content["data"] = {
        key: value
        for key, value in config.get("data", {}).items()
        if key not in NOT_IDENTITY_OF_DATA
        and not (key in _OPTIONAL_OF_DATA and value == _OPTIONAL_OF_DATA[key])
    }
    if isinstance(encoders := config.get("encoder"), Mapping):
        content["encoder"] = {name: _without_absent(node) for name, node in encoders.items()}
    text = json.dumps([content, data_fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _trainer_of_identity(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the trainer that change numbers.

    Of devices and machines only their product does, by rounding; with one device, as in versions
    that had no other, there is nothing to synchronise.
    """
    without = ("progress_bar", "devices", "num_nodes", "sync_batchnorm")
    content = {key: value for key, value in trainer.items() if key not in without}
    for key in ("ema", "snapshots"):
        if content.get(key) is None:  # as in versions that had none
            content.pop(key, None)
    num_ranks = trainer.get("devices", 1) * trainer.get("num_nodes", 1)
    if num_ranks > 1:
        content |= {"ranks": num_ranks, "sync_batchnorm": trainer.get("sync_batchnorm", True)}
    return content


def _without_absent(node: Any) -> Any:
    """Return an encoder's node without optional settings that are null."""
    if not isinstance(node, Mapping):
        return node
    absent = {key for key in _OPTIONAL_OF_ENCODERS if node.get(key) is None}
    return {key: value for key, value in node.items() if key not in absent}
