"""Store of the features of frozen encoders, to train on at small cost."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mla_lightning.data.loading import Rows
from mla_lightning.data.manifest import SOURCES
from mla_lightning.data.prepared import Prepared
from mla_lightning.data.splits import NamedSplit
from mla_lightning.data.store import finish_store
from mla_lightning.data.temporary import new_folder
from mla_lightning.errors import ConfigError, check_number, near
from mla_lightning.inputs.base import Input
from mla_lightning.inputs.scaled_columns import ScaledColumns, scaled_columns_of
from mla_lightning.prepare.progress import ItemProgress

#: Largest number of samples that are encoded at a time.
MAX_BATCH_SIZE = 10**6


def embed_store(
    data: Prepared,
    target: Path,
    encoders: Mapping[str, nn.Module],
    batch_size: int = 64,
    *,
    device: str = "cpu",
    state: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a store of the features that encoders compute in evaluation mode without gradients.

    The new store has the samples, labels, splits and attributes of the old one. A modality with an
    encoder becomes ``features`` (N, D) float32, zero where it is absent; other modalities are
    copied.

    Args:
        data: A prepared store, with the conversion of its rows to encoder inputs.
        target: Folder to write; must not exist.
        encoders: Modality -> encoder with ``out_features``.
        batch_size: Number of samples that are encoded at a time; it changes features only by
            rounding.
        device: Device that the encoders compute on, such as ``cuda``.
        state: Weights of the run that trained the encoders, whose scales of features are used; None
            for those of the data.

    Returns:
        The target.

    Raises:
        ConfigError: If there is no encoder, an encoder has no modality in the store, or an encoder
            does not accept its modality's shape.
        DataError: If the target exists, or a feature is not finite.
    """
    check_number("batch_size", batch_size, 1, MAX_BATCH_SIZE)
    store, modalities = data.store, data.all_modalities
    if not encoders:
        raise ConfigError(f"No encoder. {store.folder} has: {', '.join(modalities)}.")
    for name in encoders:
        if name not in modalities:
            raise ConfigError(
                f"{store.folder} has no modality {name!r}.{near(name, modalities)} "
                f"It has: {', '.join(modalities)}."
            )
    inputs: dict[str, Input] = data.inputs
    if state is not None:
        inputs = {m: c for m, c in inputs.items() if not isinstance(c, ScaledColumns)}
        inputs |= scaled_columns_of(state)
    with new_folder(target) as folder:
        _write(data, folder, encoders, batch_size, device, inputs)
    return target


def _write(
    data: Prepared,
    folder: Path,
    encoders: Mapping[str, nn.Module],
    batch_size: int,
    device: str,
    inputs: Mapping[str, Input],
) -> None:
    store, manifest = data.store, data.store.manifest
    replaced = {f"{modality}.npy" for modality in encoders}
    further = list(manifest.get("files", ()))
    for file in [*manifest["arrays"], *further]:
        if file not in replaced and not file.startswith("split."):
            shutil.copyfile(store.folder / file, folder / file)
    modalities = {name: dict(metadata) for name, metadata in manifest["modalities"].items()}
    total = len(store) * len(encoders)
    with ItemProgress(f"features of {manifest['name']}", total, 0) as progress:
        for modality, encoder in encoders.items():
            convert = inputs.get(modality)
            rows = store.array(modality)
            features = _features(rows, convert, encoder, batch_size, device, progress)
            present = store.present(modality)
            if present is not None:
                features[~present] = 0
            np.save(folder / f"{modality}.npy", features)
            modalities[modality] = {
                "kind": "features",
                "options": {
                    "encoder": type(encoder).__name__,
                    "weights_sha256": _weights_hash(encoder),
                    "input": None if convert is None else _as_json(convert),
                    "of": manifest["modalities"][modality],
                },
            }
    finish_store(
        folder,
        name=manifest["name"],
        class_names=manifest["class_names"],
        modalities=modalities,
        splits={
            name: NamedSplit(store.split(name), metadata["description"], metadata["group"])
            for name, metadata in manifest["splits"].items()
        },
        default_split=manifest["default_split"],
        options={**manifest["options"], "embedded_from": store.fingerprint},
        sources=json.loads((store.folder / SOURCES).read_text(encoding="utf-8")),
        failures=manifest["failures"],
        versions={**manifest["versions"], "torch": torch.__version__},
        task=store.task,
        defaults=store.defaults,
        files=further,
    )


def _features(
    rows: Rows,
    convert: Input | None,
    encoder: nn.Module,
    batch_size: int,
    device: str,
    progress: ItemProgress,
) -> np.ndarray:
    """Encode all rows: (N, D) float32; the encoder's mode and device are restored."""
    was_training = {module: module.training for module in encoder.modules()}
    parameter = next(encoder.parameters(), None)
    old_device = parameter.device if parameter is not None else torch.device(device)
    features = np.empty((len(rows), int(encoder.out_features)), dtype=np.float32)  # type: ignore[arg-type]
    encoder.eval().to(device)
    if isinstance(convert, ScaledColumns):
        convert.to(device)
    try:
        with torch.inference_mode():
            for start in range(0, len(rows), batch_size):
                numbers = torch.arange(start, min(start + batch_size, len(rows)))
                batch = rows.index_select(0, numbers).to(device)
                batch = batch if convert is None else convert(batch)
                features[numbers.numpy()] = encoder(batch).float().cpu().numpy()
                for _ in range(len(numbers)):
                    progress.count_item(is_bad=False)
    finally:
        encoder.to(old_device)
        for module, mode in was_training.items():
            module.training = mode
    return features


def _as_json(convert: Input) -> dict[str, Any]:
    """Return the class and the attributes of an input conversion, JSON-able."""
    if isinstance(convert, ScaledColumns):
        numbers = {key: value.tolist() for key, value in convert.state_dict().items()}
        return {"input": type(convert).__name__, **numbers}
    attributes = {key: list(v) if isinstance(v, tuple) else v for key, v in vars(convert).items()}
    return {"input": type(convert).__name__, **attributes}


def _weights_hash(encoder: nn.Module) -> str:
    """Hash an encoder's weights: SHA-256 as hexadecimal text."""
    digest = hashlib.sha256()
    for name, values in sorted(encoder.state_dict().items()):
        values = values.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
