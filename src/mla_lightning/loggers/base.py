"""What a node of ``conf/logger/`` names, and what its loggers share."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch.loggers import Logger

from mla_lightning.run_folder.config import RunConfig


@runtime_checkable
class LoggerSpec(Protocol):
    """What a node of ``conf/logger/`` names: it makes a logger once the job is known."""

    def make(self, config: RunConfig, run_dir: Path, run_id: str) -> Logger | None:
        """Make the logger, None if it is off or cannot be had."""


@runtime_checkable
class EndsWithCode(Protocol):
    """A logger that shows how its job ended, beyond Lightning's ``finalize``."""

    def finish(self, exit_code: int) -> None:
        """End the run; the exit code is the job's."""


def import_or_say(name: str) -> Any:
    """Return a module, or None, saying so, where it cannot be imported."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        say(f"{name} cannot be imported ({error}), so metrics go to metrics.csv alone.")
        return None


def say(text: str) -> None:
    """Print a line, at once: a job's log may be read while it runs."""
    print(text, flush=True)
