"""What a job is called: its title for people and its folder, both functions of the config."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mla_lightning.identity import NOT_IDENTITY

#: Overrides that every name tells anyway.
_NAMED_ANYWAY = ("data", "method", "ablation", "seed", "experiment")
#: Settings that change no number.
_OF_NO_CONCERN = ("trainer.progress_bar", "data.num_workers")
#: File systems allow 255 bytes; seed, identity and the suffixes of temporary files need some.
_LONGEST_STEM = 120


def is_distinguishing(key: str) -> bool:
    """Whether an override of this key may set a job apart from others of its data and method."""
    top = key.partition(".")[0]
    return key not in (*_NAMED_ANYWAY, *_OF_NO_CONCERN) and top not in NOT_IDENTITY


def slug_of(values: Mapping[str, Any]) -> str:
    """Write overrides so that they fit into a file name.

    Args:
        values: Override key -> value.

    Returns:
        Such as ``lr=0.1-projection=others``; empty for none.
    """
    parts = [f"{_leaf(key)}={_text(values[key])}" for key in sorted(values)]
    return re.sub(r"[^A-Za-z0-9_=.+-]+", "_", "-".join(parts))


def title_of(config: Mapping[str, Any], slug: str) -> str:
    """Name a job for people: sweep, data, method, ablation, overrides, seed."""
    return f"{config['name']}: {' '.join(_parts(config, slug))} seed={config['seed']}"


def run_dir_of(config: Mapping[str, Any], slug: str, identity: str) -> Path:
    """Name a job's folder.

    Args:
        config: The resolved config.
        slug: See :func:`slug_of`.
        identity: The job's hash; ten digits of it end the name, so no two jobs share a folder.

    Returns:
        The folder, below ``paths.output_dir`` unless ``run_dir`` names one.
    """
    if config["run_dir"] is not None:
        return Path(config["run_dir"]).expanduser()
    # No "=" here: a folder's name can then be pasted into an override such as run_dir=...
    stem = re.sub(r"[^A-Za-z0-9_.+-]+", "_", "-".join(_parts(config, slug)))[:_LONGEST_STEM]
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
