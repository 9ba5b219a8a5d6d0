"""Small encoders for whatever a store holds, where a config names none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mla_lightning.data.store import OpenStore
from mla_lightning.errors import DataError

ENCODERS = "mla_lightning.encoders"


def usual_encoders(store: OpenStore, modalities: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Choose small encoders by kind and shape, to start with.

    Args:
        store: The store.
        modalities: Names of the modalities.

    Returns:
        Modality -> the encoder's config.

    Raises:
        DataError: If no encoder here takes a modality.
    """
    return {name: _encoder_for(store, name) for name in modalities}


def _encoder_for(store: OpenStore, modality: str) -> dict[str, Any]:
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
    if kind == "features" and len(shape) == 2:
        return {"_target_": f"{ENCODERS}.lstm.LSTM", "in_features": shape[1], "out_features": 128}
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
            "Write one, or import features (N, D) or (N, T, D)."
        )
    return {
        "_target_": f"{ENCODERS}.small_cnn.SmallCNN",
        "in_channels": channels,
        "out_features": 64,
        "channels_last": True,
    }
