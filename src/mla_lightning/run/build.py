"""From a resolved config to data, encoders and a method."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from mla_lightning import run_folder as files
from mla_lightning.config import instantiate
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.errors import ConfigError, near
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Parts
from mla_lightning.randomness import derive_seed


def build_data(config: Mapping[str, Any]) -> MultimodalDataModule:
    """Build and set up the data module of a config.

    Args:
        config: The resolved config.

    Returns:
        The data module, with its splits.
    """
    given = {"seed": config["seed"], "modalities": config["modalities"]}
    if config["missing"]:
        given["missing"] = instantiate(config["missing"])
    data = instantiate(config["data"], **given)
    data.prepare_data()
    data.setup()
    return data


def data_of(run_dir: Path) -> MultimodalDataModule:
    """Build the data module of a run, set up."""
    return build_data(yaml.safe_load((run_dir / files.CONFIG).read_text(encoding="utf-8")))


def build_encoders(
    config: Mapping[str, Any], data: MultimodalDataModule
) -> dict[str, torch.nn.Module]:
    """Build the encoders of a config, their weights a function of the seed.

    Args:
        config: The resolved config.
        data: The data module.

    Returns:
        Modality in use -> encoder.

    Raises:
        ConfigError: If an encoder is missing, or one is given for a modality that no data has.
    """
    given = config["encoder"] or data.usual_encoders()
    for name in data.modalities:
        if name not in given:
            raise ConfigError(
                f"encoder has no entry for {name!r}.{near(name, given)} Given: {list(given)}"
            )
    known = data.all_modalities
    for name in given:
        if name not in known:
            raise ConfigError(
                f"encoder.{name}: {data.name} has no such modality.{near(name, known)}"
            )
    torch.manual_seed(derive_seed(config["seed"], "init"))
    encoders = {name: instantiate(given[name]) for name in data.modalities}
    if config["trainer"]["compile"]:
        _require_compiler(config["trainer"]["accelerator"])
        for encoder in encoders.values():
            encoder.compile()  # in place: the names of the weights stay
    return encoders


def _require_compiler(accelerator: str) -> None:
    """Refuse to compile for a processor without a compiler: it would fail in the first batch."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "cl"]
    if accelerator == "cpu" and not any(map(shutil.which, names)):
        raise ConfigError(
            f"trainer.compile=true needs a C++ compiler on the CPU, and {' or '.join(names)} is "
            "not there. Install one (Debian: apt install g++), or leave trainer.compile=false."
        )


def build_module(config: Mapping[str, Any], data: MultimodalDataModule) -> MultimodalModule:
    """Build the method of a config, its weights a function of the seed.

    Args:
        config: The resolved config.
        data: The data module, set up.

    Returns:
        The module.

    Raises:
        ConfigError: As :func:`build_encoders` says, or if a setting of the method is wrong.
    """
    encoders = build_encoders(config, data)
    method = dict(config["method"])
    trainer = config["trainer"]
    parts = Parts(
        encoders=encoders,
        fusion=instantiate(method.pop("fusion")),
        optimizer=instantiate(config["optimizer"]),
        scheduler=instantiate(config["scheduler"]) if config["scheduler"] else None,
        num_classes=data.num_classes,
        num_train=len(data.splits["train"]),
        batch_size=data.batch_size,
        seed=config["seed"],
        clip_norm=trainer["clip_norm"],
        accumulate=trainer["accumulate"],
        log_every_n_batches=trainer["log_every_n_batches"],
        inputs=data.inputs,
        is_complete=data.is_complete,
        hides=data.missing is not None and "train" in data.missing.parts,
        redraws_masks=data.missing is not None and data.missing.resample_train_masks,
        train_batches=partial(data.loader, "train"),
    )
    module: MultimodalModule = instantiate(method, parts=parts)
    hiding = data.splits["train"].hiding
    if module.wants_truth and hiding is not None:
        hiding.keeps_truth = True
    return module
