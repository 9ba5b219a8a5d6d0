"""Whether figures will be able to read a run: found out when it is read, and told with its name."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

from mla_lightning.errors import RunError
from mla_lightning.run_folder import DIAGNOSTICS, METRICS, PLANES, read_json, read_metrics

#: What every file of diagnostics holds, and figures take for granted.
PARTS = ("calibration", "entropy")


def require_intact(folder: Path) -> None:
    """Read what the figures read of a finished run.

    Args:
        folder: The run folder; a file that is not there is no fault.

    Raises:
        RunError: If a file is damaged, naming it.
    """
    try:
        read_metrics(folder)
    except (TypeError, ValueError, csv.Error) as error:
        raise RunError(f"{METRICS} cannot be read: {error}") from error
    numbers = read_json(folder / DIAGNOSTICS)
    lacking = [] if numbers is None else [name for name in PARTS if name not in numbers]
    if lacking:
        raise RunError(f"{DIAGNOSTICS} lacks {', '.join(lacking)}")
    if (folder / PLANES).is_file():
        import numpy as np

        try:
            with (folder / PLANES).open("rb") as file, np.load(file) as arrays:
                for name in arrays.files:
                    arrays[name]
        except (EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
            raise RunError(f"{PLANES} cannot be read: {error}") from error
