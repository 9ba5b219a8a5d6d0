"""TensorBoard: event files in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from mla_lightning.loggers.base import import_or_say


class TensorBoard:
    """TensorBoard event files in the run folder: ``tensorboard --logdir runs``."""

    def make(self, config: Mapping[str, Any], run_dir: Path, identity: str) -> Logger | None:
        """Make the logger.

        Args:
            config: The resolved config.
            run_dir: The run folder.
            identity: The job's identity.

        Returns:
            The logger, or None if TensorBoard is not installed.
        """
        if import_or_say("tensorboard") is None:
            return None
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(run_dir, name="tensorboard", version="", default_hp_metric=False)
