"""The one reader of run folders. Reading is the check for damage."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning import run_folder as files
from mla_lightning.errors import ConfigError, RunError
from mla_lightning.run_folder import columns
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_folder.result import Result

if TYPE_CHECKING:
    import numpy as np

#: What every ``diagnostics.json`` holds.
DIAGNOSTICS_KEYS = ("calibration", "entropy")
#: What reading damaged arrays raises; TypeError where the file holds one array and no archive.
BAD_ARRAYS = (
    *(EOFError, NotImplementedError, OSError, TypeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)


class RunFiles:
    """The files of one run folder, each read when it is asked for, once.

    Every attribute raises RunError where its file is damaged, naming the file and what is wrong
    with it. A file that is not there is None (or empty) unless a finished run must have it.
    """

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is read yet.

        Args:
            folder: The run folder.
        """
        self.folder = folder

    @property
    def state(self) -> files.State:
        """The run's state."""
        return files.state_of(self.folder)

    @cached_property
    def tree(self) -> dict[str, Any]:
        """The resolved config as plain containers."""
        return read_config(self.folder / files.CONFIG)

    @cached_property
    def config(self) -> RunConfig:
        """The resolved config."""
        try:
            return RunConfig.from_tree(migrated(self.tree))
        except ConfigError as error:
            raise RunError(f"{self.folder / files.CONFIG}: {error}") from error

    @cached_property
    def status(self) -> dict[str, Any] | None:
        """State, process, attempt, reason and retry command."""
        return files.read_json(self.folder / files.STATUS)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Code, data, versions, machine and command."""
        return files.read_json(self.folder / files.PROVENANCE) or {}

    @cached_property
    def result(self) -> Result | None:
        """The result, None while the run is not finished."""
        content = files.read_json(self.folder / files.RESULT)
        if content is None:
            return None
        try:
            return Result.from_json(content)
        except RunError as error:
            raise RunError(f"{files.RESULT} is not as expected: {error}") from error

    @cached_property
    def metrics(self) -> list[dict[str, float]]:
        """One mapping per epoch, without empty cells."""
        try:
            rows = files.read_metrics(self.folder)
        except (TypeError, ValueError, csv.Error) as error:
            raise RunError(f"{files.METRICS} cannot be read: {error}") from error
        num_batches = self.result.num_batches_trained if self.result else None
        if num_batches and (self.folder / files.METRICS).is_file():
            last = rows[-1].get(columns.STEP, num_batches) if rows else 0
            if last < num_batches:
                raise RunError(
                    f"{files.METRICS} was cut off: it ends at step {last:.0f} of {num_batches}"
                )
        return rows

    @cached_property
    def diagnostics(self) -> dict[str, Any] | None:
        """What was measured after training, None for a run without diagnostics."""
        content = files.read_json(self.folder / files.DIAGNOSTICS)
        if content is None:
            return None
        missing = [key for key in DIAGNOSTICS_KEYS if key not in content]
        if missing:
            raise RunError(f"{files.DIAGNOSTICS} lacks {', '.join(missing)}")
        odd = [key for key in DIAGNOSTICS_KEYS if not isinstance(content[key], Mapping)]
        if odd:
            raise RunError(
                f"{files.DIAGNOSTICS} is not as expected: no mapping in {', '.join(odd)}"
            )
        return content

    @cached_property
    def planes(self) -> dict[str, np.ndarray] | None:
        """Features in a plane, None for a run without."""
        path = self.folder / files.PLANES
        return read_arrays(path) if path.is_file() else None

    @cached_property
    def predictions(self) -> dict[str, np.ndarray] | None:
        """Test logits by modality, labels and sample numbers, None for a run without."""
        path = self.folder / files.PREDICTIONS
        return read_arrays(path) if path.is_file() else None

    def check(self) -> None:
        """Read what figures will read of the run.

        Raises:
            RunError: If a file is damaged, naming it.
        """
        _ = self.metrics, self.diagnostics, self.planes


def read_config(path: Path) -> dict[str, Any]:
    """Read a config.

    Args:
        path: A ``config.yaml``.

    Returns:
        Plain containers.

    Raises:
        RunError: If it is not there or damaged, naming the file.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times the speed, where it is built
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"no {path.name}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        message = " ".join(str(error).split())
        raise RunError(f"{path.name} is not valid YAML: {message}") from error
    if not isinstance(tree, dict):
        raise RunError(f"{path.name} holds no mapping")
    return tree


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


def migrated(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config of an earlier version as this version writes it.

    Args:
        tree: A run's ``config.yaml``.
    """
    return {"stale": "retrain", "metrics": {}, **tree}
