"""Construction and end of the loggers of a job."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from mla_lightning.config.secrets import mask_secrets
from mla_lightning.config.targets import instantiate, locate
from mla_lightning.errors import MLAError
from mla_lightning.loggers.base import FinishesWithExitCode, LoggerFactory, print_now
from mla_lightning.loggers.parameters import parameters_of
from mla_lightning.run_folder.config import RunConfig


def build_loggers(config: RunConfig, run_dir: Path, run_id: str) -> list[Logger]:
    """Build the loggers of a job.

    Args:
        config: The resolved config. Its ``logger`` node maps names to nodes of a
            :class:`LoggerFactory` or of any Lightning logger.
        run_dir: The run folder.
        run_id: Hash of config, data and code; a resumed job has the same one and continues its run.

    Returns:
        The loggers that could start; none if only ``metrics.csv`` is configured.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> (job,) = compose_jobs(["data=synthetic", "method=mla", "logger=tensorboard"])
        >>> [type(logger).__name__ for logger in build_loggers(job.config, tmp, job.run_id)]
        ['TensorBoardLogger']
    """
    loggers = []
    for node in (config.logger or {}).values():
        logger = instantiate(node)
        if isinstance(logger, LoggerFactory):
            logger = logger.make(config, run_dir, run_id)
        else:
            _log_parameters(logger, parameters_of(config, run_dir))
        if logger is not None:
            loggers.append(logger)
    return loggers


def _log_parameters(logger: Logger, parameters: dict[str, Any]) -> None:
    """Give a logger of Lightning the config and the provenance; an error is printed."""
    try:
        logger.log_hyperparams(parameters)
    except Exception as error:  # errors of a service must not end a job
        print_now(f"{type(logger).__name__} takes no config: {mask_secrets(str(error))}")


def finish_loggers(loggers: Sequence[Logger], exit_code: int) -> None:
    """Finish the loggers of a job; their errors are printed and not raised.

    Args:
        loggers: The loggers.
        exit_code: Exit code of the job; a tracking service shows the run as failed unless it is 0.
    """
    for logger in loggers:
        try:
            if isinstance(logger, FinishesWithExitCode):
                logger.finish(exit_code)
            else:
                logger.finalize("success" if exit_code == 0 else "failed")
        except Exception as error:
            print_now(f"{type(logger).__name__} did not finish: {error}")


def import_ahead(config: RunConfig) -> None:
    """Import the modules that a job's loggers need, before jobs are forked.

    A logger's class lists these modules in ``heavy_imports``. Their import must start neither a
    thread nor a process, which a forked job would inherit.

    Args:
        config: A job's resolved config.
    """
    for node in (config.logger or {}).values():
        with contextlib.suppress(MLAError, ImportError):  # the job that needs it reports it
            for name in getattr(locate(node["_target_"]), "heavy_imports", ()):
                importlib.import_module(name)
