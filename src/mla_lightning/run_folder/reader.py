"""The reader of run folders, which checks the files that it reads."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning import run_folder as files
from mla_lightning.errors import ConfigError, RunError, reason_of
from mla_lightning.run_folder import columns
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_folder.parsing import (
    REMEDY,
    check_numbers,
    check_size,
    check_yaml_nesting,
    read_limited,
)
from mla_lightning.run_folder.result import SCHEMA, Result
from mla_lightning.run_folder.tasks import CLASSIFICATION

if TYPE_CHECKING:
    import numpy as np

#: The keys of every ``diagnostics.json`` of classification.
DIAGNOSTICS_KEYS = ("calibration", "entropy")
#: Errors of reading damaged arrays; TypeError if the file holds one array and no archive.
ARRAY_ERRORS = (
    *(EOFError, NotImplementedError, OSError, TypeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)


class RunFiles:
    r"""The files of one run folder, each read once, when it is first used.

    Every attribute raises a RunError if its file is damaged; the message names the file and the
    problem. A file that does not exist reads as None (or as empty) unless a finished run must have
    it.

    Example:
        >>> files.write_text(tmp / "metrics.csv", "epoch,val/acc\n1,0.5\n")
        >>> run = RunFiles(tmp)
        >>> run.state, run.result, run.metrics
        (<State.MISSING: 'missing'>, None, [{'epoch': 1.0, 'val/acc': 0.5}])
    """

    def __init__(self, folder: Path) -> None:
        """Prepare to read a folder; nothing is read yet.

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
            return RunConfig.from_tree(migrate_config(self.tree))
        except ConfigError as error:
            raise RunError(f"{self.folder / files.CONFIG}: {error}") from error

    @cached_property
    def status(self) -> dict[str, Any] | None:
        """State, process, number of the attempt, reason of failure, and retry command."""
        return files.read_json(self.folder / files.STATUS)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Code, data, versions, machine and command."""
        return files.read_json(self.folder / files.PROVENANCE) or {}

    @cached_property
    def _result_content(self) -> dict[str, Any] | None:
        return files.read_json(self.folder / files.RESULT)

    @property
    def has_this_layout(self) -> bool:
        """Return whether the result has this version's layout, from which its identity follows."""
        return (self._result_content or {}).get("schema") == SCHEMA

    @cached_property
    def result(self) -> Result | None:
        """The result, None while the run is not finished."""
        content = self._result_content
        if content is None:
            return None
        try:
            return Result.from_json(content)
        except RunError as error:
            raise RunError(f"{files.RESULT} is not as expected: {error}. {REMEDY}") from error

    @cached_property
    def metrics(self) -> list[dict[str, float]]:
        """One mapping per epoch, without empty cells."""
        try:
            rows = files.read_metrics(self.folder)
        except (TypeError, ValueError, csv.Error) as error:
            raise RunError(f"{files.METRICS} cannot be read: {error}") from error
        num_batches = self.result.num_batches_trained if self.result else None
        check_numbers(rows, files.METRICS)
        if num_batches and (self.folder / files.METRICS).is_file():
            last = rows[-1].get(columns.STEP, num_batches) if rows else 0
            if last < num_batches:
                raise RunError(
                    f"{files.METRICS} was cut off: it ends at step {last:.0f} of {num_batches}"
                )
        return rows

    @cached_property
    def diagnostics(self) -> dict[str, Any] | None:
        """The measurements after training, None for a run without diagnostics."""
        content = files.read_json(self.folder / files.DIAGNOSTICS)
        if content is None:
            return None
        if self.result is not None and self.result.task != CLASSIFICATION:
            return content
        missing = [key for key in DIAGNOSTICS_KEYS if key not in content]
        if missing:
            raise RunError(f"{files.DIAGNOSTICS} has no {', '.join(missing)}")
        no_mapping = [key for key in DIAGNOSTICS_KEYS if not isinstance(content[key], Mapping)]
        if no_mapping:
            raise RunError(
                f"{files.DIAGNOSTICS} is not as expected: no mapping in {', '.join(no_mapping)}"
            )
        return content

    @cached_property
    def planes(self) -> dict[str, np.ndarray] | None:
        """Features projected to a plane, None for a run without them."""
        path = self.folder / files.PLANES
        return read_arrays(path) if path.is_file() else None

    @cached_property
    def predictions(self) -> dict[str, np.ndarray] | None:
        """Test logits by modality, labels and sample numbers, None for a run without them."""
        path = self.folder / files.PREDICTIONS
        return read_arrays(path) if path.is_file() else None


def read_config(path: Path) -> dict[str, Any]:
    """Read a run's config.

    Args:
        path: A ``config.yaml``.

    Returns:
        Plain containers.

    Raises:
        RunError: If the file does not exist or is damaged; the message names it.

    Example:
        >>> files.write_text(tmp / "config.yaml", "seed: 0")
        >>> read_config(tmp / "config.yaml")
        {'seed': 0}
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast
    try:
        text = read_limited(path)
        check_yaml_nesting(text, path.name, loader)
        tree = yaml.load(text, Loader=loader)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"no {path.name}") from None
    except RecursionError:
        raise RunError(f"{path.name} is nested too deeply. {REMEDY}") from None
    except OSError as error:
        raise RunError(f"{path.name} cannot be read: {reason_of(error, path)}") from error
    except (ValueError, yaml.YAMLError) as error:
        message = " ".join(str(error).split())
        raise RunError(f"{path.name} is not valid YAML: {message}. {REMEDY}") from error
    if not isinstance(tree, dict):
        raise RunError(f"{path.name} holds no mapping. {REMEDY}")
    check_size(tree, path.name)
    return tree


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a file.

    Args:
        path: The ``.npz`` file.

    Returns:
        Name -> array.

    Raises:
        RunError: If the file is damaged; the message names it.

    Example:
        >>> import numpy as np
        >>> np.savez(tmp / "predictions.npz", label=np.array([0, 1]))
        >>> read_arrays(tmp / "predictions.npz")
        {'label': array([0, 1])}
    """
    import numpy as np

    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except ARRAY_ERRORS as error:
        raise RunError(f"{path.name} cannot be read: {error}") from error


def migrate_config(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config of an earlier version with the keys that were added since.

    Args:
        tree: A run's ``config.yaml``.

    Example:
        >>> migrate_config({"seed": 0})
        {'stale': 'retrain', 'metrics': {}, 'seed': 0}
    """
    return {"stale": "retrain", "metrics": {}, **tree}
