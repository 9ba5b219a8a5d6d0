"""Interfaces of loggers, and functions that they share."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch.loggers import Logger

from mla_lightning.run_folder.config import RunConfig


@runtime_checkable
class LoggerFactory(Protocol):
    """The object of a node of ``conf/logger/``, which makes the logger of a job."""

    def make(self, config: RunConfig, run_dir: Path, run_id: str) -> Logger | None:
        """Make the logger; return None if it is disabled or cannot start."""


@runtime_checkable
class FinishesWithExitCode(Protocol):
    """A logger that records the exit code of its job, unlike Lightning's ``finalize``."""

    def finish(self, exit_code: int) -> None:
        """Finish logging with the exit code of the job."""


def import_or_warn(name: str) -> Any:
    """Return a module; print a message and return None if it cannot be imported.

    Example:
        >>> import_or_warn("no_such_package")
        no_such_package cannot be imported (No module named 'no_such_package'), so metrics are
        written to metrics.csv only.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        message = f"{name} cannot be imported ({error}), so metrics are written to"
        print_now(f"{message} metrics.csv only.")
        return None


def print_now(text: str) -> None:
    """Print a line without buffering, because a job's log may be read while it runs."""
    print(text, flush=True)
