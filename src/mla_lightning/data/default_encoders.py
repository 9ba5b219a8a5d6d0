"""Small default encoders for the modalities of a store, for configs that name none.

A store has a version of these defaults, so that runs on a store of an earlier one do not change.
Version 2, of imported data: dropout in MLPs, spectrograms with the place of what they show, and
features of one width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mla_lightning.data.store import OpenStore
from mla_lightning.errors import DataError

ENCODERS = "mla_lightning.encoders"
#: Version of the defaults of new imports.
DEFAULTS = 2


def default_encoders(store: OpenStore, modalities: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return configs of small encoders, chosen by the kind and shape of each modality.

    Args:
        store: The store.
        modalities: Names of the modalities.

    Returns:
        Modality -> the encoder's config.

    Raises:
        DataError: If the package has no encoder for a modality.
    """
    return {name: _encoder_for(store, name) for name in modalities}


def _encoder_for(store: OpenStore, modality: str) -> dict[str, Any]:
    is_first = store.defaults < 2
    metadata = store.manifest["modalities"][modality]
    kind = metadata["kind"]
    _, *shape = store.manifest["arrays"][f"{modality}.npy"]["shape"]
    if kind == "features" and len(shape) == 1:
        return {
            "_target_": f"{ENCODERS}.mlp.MLP",
            "in_features": shape[0],
            "hidden": 64,
            "out_features": 64,
            "num_layers": 2,
            "dropout": 0.0 if is_first else 0.3,
        }
    if kind == "features" and len(shape) == 2:
        return {
            "_target_": f"{ENCODERS}.lstm.LSTM",
            "in_features": shape[1],
            "out_features": 128 if is_first else 64,
        }
    if kind == "tokens" and len(shape) == 1:
        num_tokens = metadata["options"].get("num_tokens")
        if num_tokens is None:
            highest = max(store.array(modality)[row].max() for row in range(len(store)))
            num_tokens = int(highest) + 1
        return {
            "_target_": f"{ENCODERS}.bag_of_tokens.BagOfTokens",
            "num_tokens": num_tokens,
            "out_features": 64,
        }
    channels = {"image": shape[0], "spectrogram": 1, "frames": 3}.get(kind)
    if channels is None or len(shape) != {"image": 3, "spectrogram": 2, "frames": 4}[kind]:
        raise DataError(
            f"{store.folder}: the package has no encoder for {modality!r}, {kind} of shape "
            f"{tuple(shape)}. Write one, or import features (N, D) or (N, T, D)."
        )
    return {
        "_target_": f"{ENCODERS}.small_cnn.SmallCNN",
        "in_channels": channels,
        "out_features": 64,
        "channels_last": True,
        **({"grid": 4} if kind == "spectrogram" and not is_first else {}),
    }
