"""The Trainer of a run: of one process, or of one of the ranks that train together."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer

from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.callbacks.checkpoint_io import CheckedCheckpointIO
from mla_lightning.callbacks.progress import RunProgress
from mla_lightning.callbacks.snapshot_ensemble import TakeSnapshots
from mla_lightning.callbacks.weight_average import WeightAverage
from mla_lightning.errors import ConfigError
from mla_lightning.run.epoch_loop import EpochLoop, NoProfiler
from mla_lightning.run.one_process import OneProcess
from mla_lightning.run.rank_group import RankGroup
from mla_lightning.run.rank_strategy import RankStrategy
from mla_lightning.run_folder.config import RunConfig


def build_trainer(
    config: RunConfig,
    run_dir: Path,
    checkpoint: RunCheckpoint,
    loggers: list[Any],
    callbacks: Sequence[Callback] = (),
    group: RankGroup | None = None,
) -> Trainer:
    """Build the Trainer of a config.

    Args:
        config: The resolved config.
        run_dir: The run folder.
        checkpoint: The callback that writes checkpoints.
        loggers: Lightning loggers, which may be none.
        callbacks: Callbacks before that one.
        group: The ranks that train together; None for one process.

    Returns:
        The Trainer.

    Raises:
        ConfigError: If this machine has no such accelerator, or it has no such precision.
    """
    options = config.trainer
    average: list[Callback] = [] if options.ema is None else [WeightAverage(options.ema)]
    if options.snapshots is not None:
        average = [TakeSnapshots(options.snapshots)]
    has_bar = options.progress_bar and sys.stdout.isatty()
    bar: list[Callback] = [RunProgress()] if has_bar else []
    try:
        if group is None:
            processes: dict[str, Any] = {"devices": 1}
            plugins: list[Any] = [OneProcess()]
        else:
            devices = devices_of_ranks(
                options.accelerator, options.devices, is_forked=group.is_forked
            )
            strategy = RankStrategy(group, devices)
            processes = {"strategy": strategy, "devices": options.devices}
            processes["num_nodes"] = options.num_nodes
            plugins = []
        trainer = Trainer(
            max_epochs=options.num_epochs,
            accelerator=options.accelerator,
            precision=options.precision,
            deterministic=options.deterministic,
            callbacks=[*average, *callbacks, *bar, checkpoint],  # in the order of their calls
            plugins=[CheckedCheckpointIO(), *plugins],
            logger=loggers or False,
            log_every_n_steps=options.log_every_n_batches,
            enable_progress_bar=bool(bar),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=run_dir,
            profiler=NoProfiler(),
            **processes,
        )
    except MisconfigurationException as error:
        raise ConfigError(
            f"trainer.accelerator={options.accelerator} with trainer.precision={options.precision} "
            f"cannot be used on this machine: {error}"
        ) from error
    trainer.fit_loop.epoch_loop = EpochLoop(trainer)
    return trainer


def devices_of_ranks(
    accelerator: str, devices: int, *, is_forked: bool = True
) -> list[torch.device]:
    """Return the device of each rank of this machine.

    Args:
        accelerator: ``trainer.accelerator``.
        devices: ``trainer.devices``.
        is_forked: Whether the ranks have the same GPUs in sight; srun can give each its own.

    Raises:
        ConfigError: If this machine has too few GPUs.

    Example:
        >>> devices_of_ranks("cpu", 2)
        [device(type='cpu'), device(type='cpu')]
    """
    num_gpus = torch.cuda.device_count() if accelerator != "cpu" else 0
    if accelerator == "cpu" or (accelerator == "auto" and not num_gpus):
        return [torch.device("cpu")] * devices
    if num_gpus == 1 and not is_forked:  # srun --gpus-per-task=1: each rank sees its own alone
        return [torch.device("cuda", 0)] * devices
    if num_gpus < devices:
        raise ConfigError(
            f"trainer.devices={devices} needs {devices} GPUs, and this process may use "
            f"{num_gpus}. Write trainer.devices={max(1, num_gpus)}."
        )
    return [torch.device("cuda", number) for number in range(devices)]


def silence_lightning() -> None:
    """Hide Lightning's advice that does not apply here, such as more loader workers."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for text in (
        ".*does not have many workers.*",
        ".*is smaller than the logging interval.*",
        ".*in eval mode at the start of training.*",  # frozen encoders are meant to be
        ".*`srun` command is available.*",  # asked by Lightning although the environment is given
        ".*sync_dist=True.*",  # all ranks log the same values
        ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning 2.6.6 with torch 2.13
    ):
        warnings.filterwarnings("ignore", text)
