"""Construction of data, encoders, metrics and method from a resolved config."""

from __future__ import annotations

import math
import os
import shutil
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback

from mla_lightning.callbacks.snapshot_ensemble import SnapshotEnsemble
from mla_lightning.config import instantiate
from mla_lightning.config.jobs import data_of_config, encoder_nodes_of_config
from mla_lightning.config.targets import TARGET
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.data.splits import HELD_OUT
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.metrics.base import Metric
from mla_lightning.module import MultimodalModule
from mla_lightning.randomness import derive_seed
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_folder.tasks import CLASSIFICATION, MULTILABEL, REGRESSION
from mla_lightning.tasks import (
    Classification,
    Task,
    balanced_class_weights,
    balanced_label_weights,
)


class DataFacts(NamedTuple):
    """Facts about the training data that a method is built with.

    Attributes:
        num_classes: Number of classes C.
        num_train: Number of training samples N.
        is_complete: Whether every sample has every modality.
        task: The task of the data.

    Example:
        >>> facts = DataFacts(num_classes=4, num_train=1000, is_complete=False)
        >>> facts.num_classes, facts.is_complete
        (4, False)
    """

    num_classes: int
    num_train: int
    is_complete: bool
    task: str = CLASSIFICATION


def build_data(config: RunConfig) -> MultimodalDataModule:
    """Build and set up the data module of a config.

    Args:
        config: The resolved config.

    Returns:
        The data module with its splits.

    Raises:
        DataError: If the data are missing or damaged.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> (job,) = compose_jobs(["data=synthetic", "data.num_train=96", "method=mla"])
        >>> data = build_data(job.config)
        >>> len(data.splits["train"]), data.modalities
        (96, ('audio', 'visual'))
    """
    data = data_of_config(config.tree)
    data.prepare_data()
    data.setup()
    return data


def build_encoders(config: RunConfig, data: MultimodalDataModule) -> dict[str, torch.nn.Module]:
    """Build the encoders of a config, with initial weights that depend on the seed alone.

    Args:
        config: The resolved config.
        data: The data module.

    Returns:
        Modality in use -> encoder.

    Raises:
        ConfigError: If an encoder is missing, or is given for a modality that the data do not have,
            or is to be compiled without a compiler.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> (job,) = compose_jobs(["data=synthetic", "method=mla"])
        >>> encoders = build_encoders(job.config, build_data(job.config))
        >>> {name: encoder(torch.zeros(3, 16)).shape for name, encoder in encoders.items()}
        {'audio': torch.Size([3, 16]), 'visual': torch.Size([3, 16])}
    """
    nodes = encoder_nodes_of_config(config.tree, data)
    torch.manual_seed(derive_seed(config.seed, "init"))
    encoders = {name: instantiate(nodes[name]) for name in data.modalities}
    if config.trainer.compile:
        _require_compiler(config.trainer.accelerator)
        for encoder in encoders.values():
            encoder.compile()  # in place: the names of the weights stay
    return encoders


def _require_compiler(accelerator: str) -> None:
    """Raise ConfigError without a C++ compiler, before compilation fails in the first batch."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "cl"]
    if accelerator == "cpu" and not any(map(shutil.which, names)):
        raise ConfigError(
            f"trainer.compile=true needs a C++ compiler on the CPU, and {' or '.join(names)} "
            "was not found. Install one (Debian: apt install g++), or leave trainer.compile=false."
        )


def build_callbacks(config: RunConfig) -> list[Callback]:
    """Build the callbacks that a config adds.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> (job,) = compose_jobs(["data=synthetic", "callbacks=[model_summary,profiler]"])
        >>> [type(callback).__name__ for callback in build_callbacks(job.config)]
        ['ModelSummary', 'Profile']
    """
    return [instantiate(node) for node in (config.callbacks or {}).values()]


def build_metrics(config: RunConfig) -> dict[str, Metric]:
    """Build the metrics of a config.

    Returns:
        Name -> metric.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> (job,) = compose_jobs(["data=synthetic", "method=mla"])
        >>> build_metrics(job.config)["accuracy"].percent
        True
    """
    return {name: instantiate(node) for name, node in config.metrics.items()}


def build_task(
    config: RunConfig, facts: DataFacts, data: MultimodalDataModule | None = None
) -> Task:
    """Build the task of a config, with the numbers that it needs of the training split.

    Args:
        config: The resolved config.
        facts: Facts about the training data.
        data: The data module, set up; None for a model whose weights are loaded, and with them
            these numbers.

    Returns:
        The task.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> (job,) = compose_jobs(["data=synthetic", "loss.class_weights=balanced"])
        >>> data = build_data(job.config)
        >>> build_task(job.config, DataFacts(4, 320, True), data).class_weights  # of equal classes
        tensor([1., 1., 1., 1.])
    """
    node = config.task or {TARGET: f"{Classification.__module__}.{Classification.__name__}"}
    supplied: dict[str, Any] = {}
    if facts.task == REGRESSION and data is not None:
        supplied["mean"], supplied["std"] = data.target_scale()
    if config.loss.class_weights is not None:
        supplied["class_weights"] = torch.ones(facts.num_classes)
        if data is not None:
            label = data.splits["train"].label
            supplied["class_weights"] = (
                balanced_label_weights(label)
                if facts.task == MULTILABEL
                else balanced_class_weights(label, facts.num_classes)
            )
    task: Task = instantiate(dict(node), **supplied)
    return task


def build_module(
    config: RunConfig,
    data: MultimodalDataModule,
    *,
    facts: DataFacts | None = None,
) -> MultimodalModule:
    """Build the method of a config, with initial weights that depend on the seed alone.

    Args:
        config: The resolved config.
        data: The data module. It is set up unless ``facts`` are given.
        facts: Facts that a finished run recorded about its training data, to build its model
            without these data; None to read them from ``data``.

    Returns:
        The module.

    Raises:
        ConfigError: As in :func:`build_encoders`, or if a setting of the method is wrong.
        DataError: If fewer samples are held out than the method needs.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> (job,) = compose_jobs(["data=synthetic", "method=mla"])
        >>> module = build_module(job.config, build_data(job.config))
        >>> type(module).__name__, module.modalities
        ('MLA', ('audio', 'visual'))
    """
    is_finished = facts is not None
    if facts is None:
        data.setup()
        num_train = len(data.splits["train"])
        facts = DataFacts(data.num_classes, num_train, data.is_complete, data.task)
        task = build_task(config, facts, data)
    else:
        task = build_task(config, facts)
    encoders = build_encoders(config, data)
    method = dict(config.method)
    fusion = instantiate(method.pop("fusion"))
    epoch_metrics = {
        metric.epoch: metric.function
        for metric in build_metrics(config).values()
        if metric.epoch is not None
    }
    module: MultimodalModule = instantiate(
        method,
        encoders=encoders,
        fusion=fusion,
        optimizer=instantiate(config.optimizer),
        scheduler=instantiate(config.scheduler) if config.scheduler else None,
        num_classes=facts.num_classes,
        task=task,
        num_train=facts.num_train,
        batch_size=data.batch_size,
        seed=config.seed,
        clip_norm=config.trainer.clip_norm,
        accumulate=config.trainer.accumulate,
        log_every_n_batches=config.trainer.log_every_n_batches,
        num_ranks=config.trainer.num_ranks,
        sync_batchnorm=config.trainer.sync_batchnorm,
        inputs=data.inputs,
        is_complete=facts.is_complete,
        hides_modalities=data.missing is not None and "train" in data.missing.splits,
        resamples_masks=data.missing is not None and data.missing.resample_train_masks,
        train_batches=partial(data.loader, "train"),
        held_out_batches=partial(data.loader, HELD_OUT) if data.held_out or is_finished else None,
        epoch_metrics=epoch_metrics,
        select_by=config.select_by,
        logs_epochs=False,
    )
    if config.trainer.snapshots:
        module.snapshots = SnapshotEnsemble(module, config.trainer.snapshots)
    if not is_finished:
        _check_held_out(module, facts.num_train, len(data.splits.get(HELD_OUT, ())))
    if module.needs_hidden_inputs and data.splits:
        data.keep_truth()
    return module


def _check_held_out(module: MultimodalModule, num_train: int, num_held_out: int) -> None:
    """Raise DataError if fewer samples are held out than the method needs."""
    least = module.min_held_out_per_class * module.parts.num_classes
    if not module.needs_held_out or num_held_out >= least:
        return
    enough = math.ceil(20 * 1.05 * least / (num_train + num_held_out)) / 20
    remedy = f"Set data.held_out={enough:.2g}" if enough < 0.9 else "Use more data"
    raise DataError(
        f"{type(module).__name__} needs at least {least} samples that are held out from training "
        f"({module.min_held_out_per_class} for each output of a head, such as a class), and there "
        f"are {num_held_out}. {remedy}."
    )
