"""TensorBoard logger with event files in the run folder."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.loggers import Logger

from mla_lightning.loggers.base import import_or_warn
from mla_lightning.run_folder.config import RunConfig


class TensorBoard:
    """Factory of loggers that write TensorBoard event files to the run folder.

    ``tensorboard --logdir runs`` shows them.
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

        return TensorBoardLogger(run_dir, name="tensorboard", version="", default_hp_metric=False)
