"""Whether figures will be able to read a run: found out when it is read, and told with its name."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.errors import RunError
from mla_lightning.run_folder import (
    CONFIG,
    DIAGNOSTICS,
    METRICS,
    PLANES,
    read_json,
    read_metrics,
)

if TYPE_CHECKING:
    import numpy as np

#: What every file of diagnostics holds, and figures take for granted.
PARTS = ("calibration", "entropy")
#: What reading damaged arrays raises; TypeError where the file holds one array and no archive.
BAD_ARRAYS = (
    EOFError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def require_intact(folder: Path, num_steps: int | None = None) -> None:
    """Read what the figures read of a finished run.

    Args:
        folder: The run folder; a file that is not there is no fault.
        num_steps: How many steps its result tells; None if it does not.

    Raises:
        RunError: If a file is damaged, naming it.
    """
    try:
        rows = read_metrics(folder)
    except (TypeError, ValueError, csv.Error) as error:
        raise RunError(f"{METRICS} cannot be read: {error}") from error
    if num_steps and (folder / METRICS).is_file():
        last = rows[-1].get("step", num_steps) if rows else 0
        if last < num_steps:
            raise RunError(f"{METRICS} was cut off: it ends at step {last:.0f} of {num_steps}")
    numbers = read_json(folder / DIAGNOSTICS)
    lacking = [] if numbers is None else [name for name in PARTS if name not in numbers]
    if lacking:
        raise RunError(f"{DIAGNOSTICS} lacks {', '.join(lacking)}")
    odd = [name for name in PARTS if not isinstance((numbers or {}).get(name, {}), Mapping)]
    if odd:
        raise RunError(f"{DIAGNOSTICS} is not as expected: no mapping in {', '.join(odd)}")
    if (folder / PLANES).is_file():
        read_arrays(folder / PLANES)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a file.

    Args:
        path: The ``.npz`` file.

    Returns:
        Name -> array.

    Raises:
        RunError: If the file is damaged, naming it.
    """
    import numpy as np

    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except BAD_ARRAYS as error:
        raise RunError(f"{path.name} cannot be read: {error}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config of a run.

    Args:
        folder: The run folder.

    Returns:
        The config.

    Raises:
        RunError: If it is not there or damaged, naming the file.
    """
    import yaml

    try:
        config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())
        raise RunError(f"{CONFIG} cannot be read: {told}") from error
    if not isinstance(config, Mapping):
        raise RunError(f"{CONFIG} holds no mapping")
    return dict(config)
