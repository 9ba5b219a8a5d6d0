"""The title of a job and its run folder, both computed from the config."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mla_lightning.identity import NOT_IDENTITY

#: Overrides that titles and folders show in a place of their own.
_ALWAYS_SHOWN = ("data", "method", "ablation", "seed", "experiment")
#: Settings that change no number.
_WITHOUT_EFFECT = ("trainer.progress_bar", "data.num_workers", "data.scratch")
#: File systems allow 255 bytes; seed, identity and suffixes of temporary files take some of them.
_MAX_STEM_LENGTH = 120


def is_distinguishing(key: str) -> bool:
    """Return whether jobs of the same data and method can differ in an override of a key.

    Example:
        >>> is_distinguishing("optimizer.lr"), is_distinguishing("seed")
        (True, False)
    """
    top = key.partition(".")[0]
    return key not in (*_ALWAYS_SHOWN, *_WITHOUT_EFFECT) and top not in NOT_IDENTITY


def slug_of(values: Mapping[str, Any], trainer: Mapping[str, Any] | None = None) -> str:
    """Format overrides as a part of a file name.

    Args:
        values: Override key -> value.
        trainer: The settings of the trainer, whose devices on all machines are counted together:
            only their number makes another job.

    Returns:
        Last names and values in the order of the keys; empty without overrides.

    Example:
        >>> slug_of({"optimizer.lr": 0.1, "method.projection": "others", "modalities": ["a", "b"]})
        'projection=others-modalities=a+b-lr=0.1'
        >>> slug_of({"trainer.num_nodes": 2}, {"devices": 4, "num_nodes": 2})
        'devices=8'
    """
    if trainer and values.keys() & {"trainer.devices", "trainer.num_nodes"}:
        values = {key: value for key, value in values.items() if key != "trainer.num_nodes"}
        values["trainer.devices"] = trainer["devices"] * trainer["num_nodes"]
    parts = [f"{_leaf(key)}={_text(values[key])}" for key in sorted(values)]
    return re.sub(r"[^A-Za-z0-9_=.+-]+", "_", "-".join(parts))


def title_of(config: Mapping[str, Any], slug: str) -> str:
    """Return a job's title: name of the sweep, data, method, ablation, overrides, seed.

    Example:
        >>> choices = {"data": "openmoji", "method": "mla", "ablation": "none"}
        >>> title_of({"name": "train", "choices": choices, "seed": 3}, "lr=0.1")
        'train: openmoji mla lr=0.1 seed=3'
    """
    return f"{config['name']}: {' '.join(_parts(config, slug))} seed={config['seed']}"


def run_dir_of(config: Mapping[str, Any], slug: str, identity: str) -> Path:
    """Return a job's run folder.

    Args:
        config: The resolved config.
        slug: The formatted overrides, see :func:`slug_of`.
        identity: The job's identity, whose first ten digits end the folder's name, so that no two
            jobs share a folder.

    Returns:
        The value of ``run_dir`` if it is set, else a folder below ``paths.output_dir``.

    Example:
        >>> config = {"run_dir": None, "paths": {"output_dir": "runs"}, "name": "train", "seed": 3}
        >>> config["choices"] = {"data": "openmoji", "method": "mla"}
        >>> run_dir_of(config, "lr=0.1", "1a2b3c4d5e6f").as_posix()
        'runs/train/openmoji-mla-lr_0.1-seed3-1a2b3c4d5e'
    """
    if config["run_dir"] is not None:
        return Path(config["run_dir"]).expanduser()
    # Without "=", so that the path can be pasted into an override such as run_dir=...
    stem = re.sub(r"[^A-Za-z0-9_.+-]+", "_", "-".join(_parts(config, slug)))[:_MAX_STEM_LENGTH]
    folder = Path(config["paths"]["output_dir"]).expanduser() / config["name"]
    return folder / f"{stem}-seed{config['seed']}-{identity[:10]}"


def _parts(config: Mapping[str, Any], slug: str) -> list[str]:
    choices = config["choices"]
    ablation = choices.get("ablation", "none")
    return [
        choices["data"],
        choices["method"],
        *([ablation] if ablation != "none" else []),
        *([slug] if slug else []),
    ]


def _leaf(key: str) -> str:
    return key.partition("@")[0].rpartition(".")[2]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(_text, value))
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
