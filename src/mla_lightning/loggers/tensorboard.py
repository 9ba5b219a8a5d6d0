"""TensorBoard logger with event files in the run folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from mla_lightning.config.secrets import mask_secrets
from mla_lightning.loggers.base import import_or_warn, print_now
from mla_lightning.loggers.best import directions
from mla_lightning.loggers.parameters import parameters_of
from mla_lightning.run_folder.config import RunConfig


class TensorBoard:
    """Factory of loggers that write TensorBoard event files to the run folder.

    ``tensorboard --logdir runs`` shows them: metrics, and config and provenance under HPARAMS.
    """

    def make(self, config: RunConfig, run_dir: Path, run_id: str) -> Logger | None:
        """Make the logger.

        Args:
            config: The resolved config.
            run_dir: The run folder.
            run_id: Id of the job.

        Returns:
            The logger; None if TensorBoard is not installed.
        """
        if import_or_warn("tensorboard") is None:
            return None
        from lightning.pytorch.loggers import TensorBoardLogger

        logger = TensorBoardLogger(run_dir, name="tensorboard", version="", default_hp_metric=False)
        parameters = parameters_of(config, run_dir)
        try:
            write_parameters(logger.experiment, parameters, directions(config))
        except Exception as error:  # such as a full disk: errors of a tracker must not end a job
            print_now(f"TensorBoard accepts no config ({mask_secrets(str(error))}).")
        return logger


def write_parameters(writer: Any, parameters: Mapping[str, Any], metrics: Iterable[str]) -> None:
    """Write the parameters of a run, which TensorBoard shows in a table beside its metrics.

    Args:
        writer: A ``torch.utils.tensorboard.SummaryWriter``.
        parameters: Key -> value.
        metrics: Names of the scalars that are columns of the table.

    Example:
        >>> from torch.utils.tensorboard import SummaryWriter
        >>> writer = SummaryWriter(tmp)
        >>> write_parameters(writer, {"optimizer.lr": 0.1}, ["val/acc"])
        >>> writer.close()
    """
    from tensorboard.plugins.hparams import summary_v2 as api

    plain = {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in parameters.items()
    }
    columns = [api.Metric(name) for name in metrics]
    table = api.hparams_config_pb(hparams=[api.HParam(key) for key in plain], metrics=columns)
    for summary in (table, api.hparams_pb(plain)):
        writer.file_writer.add_summary(summary)
