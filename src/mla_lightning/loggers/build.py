"""Build the loggers of a job, and close them."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.loggers import Logger

from mla_lightning.config.targets import instantiate, locate
from mla_lightning.errors import MLAError
from mla_lightning.loggers.base import EndsWithCode, LoggerSpec, say
from mla_lightning.run_folder.config import RunConfig


def build_loggers(config: RunConfig, run_dir: Path, run_id: str) -> list[Logger]:
    """Build the loggers of a job.

    Args:
        config: The resolved config; its ``logger`` node maps names to nodes that name a
            :class:`LoggerSpec` or any Lightning logger.
        run_dir: The run folder.
        run_id: An id of config, data and code: a resumed job continues its run.

    Returns:
        The loggers; empty if nothing but ``metrics.csv`` is wanted or to be had.
    """
    loggers = []
    for node in (config.logger or {}).values():
        spec = instantiate(node)
        made = spec.make(config, run_dir, run_id) if isinstance(spec, LoggerSpec) else spec
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


def import_ahead(config: RunConfig) -> None:
    """Import what a job's loggers will need, so that forked jobs find it imported.

    A logger's class names these modules in ``heavy_imports``. They must start neither a thread nor
    a process when they are imported, since a forked job would inherit it.

    Args:
        config: A job's resolved config.
    """
    for node in (config.logger or {}).values():
        with contextlib.suppress(MLAError, ImportError):  # the job that needs it says so
            for name in getattr(locate(node["_target_"]), "heavy_imports", ()):
                importlib.import_module(name)
