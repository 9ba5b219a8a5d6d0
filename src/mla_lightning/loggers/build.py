"""Build the loggers of a job, and close them."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from mla_lightning.config.targets import instantiate, locate
from mla_lightning.errors import MLAError
from mla_lightning.loggers.base import EndsWithCode, LoggerSpec, say


def build_loggers(config: Mapping[str, Any], run_dir: Path, identity: str) -> list[Logger]:
    """Build the loggers of a job.

    Args:
        config: The resolved config; its ``logger`` node maps names to nodes that name a
            :class:`LoggerSpec` or any Lightning logger.
        run_dir: The run folder.
        identity: The job's identity.

    Returns:
        The loggers; empty if nothing but ``metrics.csv`` is wanted or to be had.
    """
    loggers = []
    for node in (config["logger"] or {}).values():
        spec = instantiate(node)
        made = spec.make(config, run_dir, identity) if isinstance(spec, LoggerSpec) else spec
        if made is not None:
            loggers.append(made)
    return loggers


def finish_loggers(loggers: Sequence[Logger], exit_code: int) -> None:
    """Close the loggers, also after a failure.

    Args:
        loggers: What :func:`build_loggers` returned.
        exit_code: The job's; the tracking service shows the run as failed unless it is 0.
    """
    for logger in loggers:
        try:
            if isinstance(logger, EndsWithCode):
                logger.finish(exit_code)
            else:
                logger.finalize("success" if exit_code == 0 else "failed")
        except Exception as error:
            say(f"{type(logger).__name__} did not finish: {error}")


def import_ahead(config: Mapping[str, Any]) -> None:
    """Import what a job's loggers will need, so that forked jobs find it imported.

    A logger's class names these modules in ``heavy_imports``. They must start neither a thread nor
    a process when they are imported, since a forked job would inherit it.

    Args:
        config: A job's resolved config.
    """
    for node in (config["logger"] or {}).values():
        with contextlib.suppress(MLAError, ImportError):  # the job that needs it says so
            for name in getattr(locate(node["_target_"]), "heavy_imports", ()):
                importlib.import_module(name)
