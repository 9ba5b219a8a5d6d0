"""TensorBoard: event files in the run folder."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.loggers import Logger

from mla_lightning.loggers.base import import_or_say
from mla_lightning.run_folder.config import RunConfig


class TensorBoard:
    """TensorBoard event files in the run folder: ``tensorboard --logdir runs``."""

    def make(self, config: RunConfig, run_dir: Path, run_id: str) -> Logger | None:
        """Make the logger.

        Args:
            config: The resolved config.
            run_dir: The run folder.
            run_id: The job's id.

        Returns:
            The logger, or None if TensorBoard is not installed.
        """
        if import_or_say("tensorboard") is None:
            return None
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(run_dir, name="tensorboard", version="", default_hp_metric=False)
