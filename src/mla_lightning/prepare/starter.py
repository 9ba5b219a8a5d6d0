"""A config to start from: which small encoders fit the modalities of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mla_lightning.data.store import OpenStore, open_store
from mla_lightning.errors import DataError
from mla_lightning.run_folder import write_text

ENCODERS = "mla_lightning.encoders"


def write_config(folder: Path) -> Path:
    """Write ``conf/data/<name>.yaml`` into a store: the data, and an encoder per modality.

    It is meant to be edited: small networks from scratch, and the paper's optimisation.

    Args:
        folder: The store.

    Returns:
        The folder to give to ``--config-dir``.

    Raises:
        DataError: If a modality is of a kind or shape that no encoder here takes.
    """
    store = open_store(folder)
    name = str(store.manifest["name"])
    config = {
        "data": {
            "_target_": "mla_lightning.data.prepared.Prepared",
            "path": str(folder),
            "split": None,
            "eval_batch_size": 256,
            "num_workers": 0,
        },
        "encoder": {modality: encoder_for(store, modality) for modality in store.modalities},
    }
    shown = ", ".join(store.modalities)
    text = f"""# @package _global_
# {name}: {len(store)} samples of {len(store.manifest["class_names"])} classes, with {shown}.
#   mla train --config-dir {folder / "conf"} data={name}
# Edit it: the encoders are small ones to start with, the optimisation is the paper's.
defaults:
  - override /encoder: none
  - override /recipe: paper
"""
    conf = folder / "conf"
    (conf / "data").mkdir(parents=True, exist_ok=True)
    write_text(conf / "data" / f"{name}.yaml", text + yaml.safe_dump(config, sort_keys=False))
    return conf


def encoder_for(store: OpenStore, modality: str) -> dict[str, Any]:
    """Choose a small encoder by kind and shape.

    Args:
        store: The store.
        modality: Name of the modality.

    Returns:
        The encoder's config.

    Raises:
        DataError: If none takes it.
    """
    about = store.manifest["modalities"][modality]
    kind = about["kind"]
    _, *shape = store.manifest["arrays"][f"{modality}.npy"]["shape"]
    if kind == "features" and len(shape) == 1:
        return {
            "_target_": f"{ENCODERS}.mlp.MLP",
            "in_features": shape[0],
            "hidden": 64,
            "out_features": 64,
            "num_layers": 2,
            "dropout": 0.0,
        }
    if kind == "tokens" and len(shape) == 1:
        tokens = about["options"].get("num_tokens")
        if tokens is None:
            tokens = int(max(store.array(modality)[row].max() for row in range(len(store)))) + 1
        return {
            "_target_": f"{ENCODERS}.bag_of_tokens.BagOfTokens",
            "num_tokens": tokens,
            "out_features": 64,
        }
    channels = {"image": shape[0], "spectrogram": 1, "frames": 3}.get(kind)
    if channels is None or len(shape) != {"image": 3, "spectrogram": 2, "frames": 4}[kind]:
        raise DataError(
            f"{store.folder}: no encoder here takes {modality!r}, {kind} of shape {tuple(shape)}. "
            "Write one, or import features (N, D)."
        )
    if kind == "frames":
        return {
            "_target_": f"{ENCODERS}.resnet18.ResNet18",
            "in_channels": 3,
            "channels_last": True,
        }
    return {
        "_target_": f"{ENCODERS}.small_cnn.SmallCNN",
        "in_channels": channels,
        "out_features": 512 if "frames" in _kinds(store) else 64,
        "channels_last": True,
    }


def _kinds(store: OpenStore) -> set[str]:
    return {about["kind"] for about in store.manifest["modalities"].values()}
