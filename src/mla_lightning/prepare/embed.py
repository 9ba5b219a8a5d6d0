"""The features of frozen encoders as a store of their own, to train on at small cost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mla_lightning.data.loading import Rows
from mla_lightning.data.prepared import Prepared
from mla_lightning.data.splits import NamedSplit
from mla_lightning.data.store import SOURCES, finish_store
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.inputs.base import Input
from mla_lightning.prepare.progress import Progress


def embed_store(
    data: Prepared,
    target: Path,
    encoders: Mapping[str, nn.Module],
    batch_size: int = 64,
    *,
    device: str = "cpu",
) -> Path:
    """Write a store's features, as encoders compute them in evaluation mode without gradients.

    The new store has the samples, labels, splits and attributes of the old one. A modality with an
    encoder becomes ``features`` (N, D) float32, zero where a sample lacks it; the others stay.

    Args:
        data: A prepared store, and how its rows become what the encoders take.
        target: Folder to write; must not exist.
        encoders: Modality -> encoder with ``out_features``.
        batch_size: Samples that are encoded at a time; changes features by rounding alone.
        device: Where the encoders compute, such as ``cuda``.

    Returns:
        The target.

    Raises:
        ConfigError: If there is no encoder, or one for a modality that the store has not; or if an
            encoder does not take the modality's shape.
        DataError: If the target exists, or a feature is not finite.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    store, modalities = data.store, data.all_modalities
    if not encoders:
        raise ConfigError(f"No encoder. {store.folder} has: {', '.join(modalities)}.")
    for key in encoders:
        if key not in modalities:
            raise ConfigError(
                f"{store.folder} has no modality {key!r}.{near(key, modalities)} "
                f"It has: {', '.join(modalities)}."
            )
    if target.exists():
        raise DataError(f"{target} exists. Choose another target, or remove it: rm -r {target}")
    partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    partial.mkdir(parents=True)
    try:
        _write(data, partial, encoders, batch_size, device)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial)
        raise
    return target


def _write(
    data: Prepared,
    folder: Path,
    encoders: Mapping[str, nn.Module],
    batch_size: int,
    device: str,
) -> None:
    store, manifest = data.store, data.store.manifest
    replaced = {f"{modality}.npy" for modality in encoders}
    for file in manifest["arrays"]:
        if file not in replaced and not file.startswith("split."):
            shutil.copyfile(store.folder / file, folder / file)
    modalities = {key: dict(about) for key, about in manifest["modalities"].items()}
    with Progress(f"features of {manifest['name']}", len(store) * len(encoders), 0) as progress:
        for modality, encoder in encoders.items():
            taken = data.inputs.get(modality)
            rows = store.array(modality)
            features = _features(rows, taken, encoder, batch_size, device, progress)
            present = store.present(modality)
            if present is not None:
                features[~present] = 0
            np.save(folder / f"{modality}.npy", features)
            modalities[modality] = {
                "kind": "features",
                "options": {
                    "encoder": type(encoder).__name__,
                    "weights_sha256": _fingerprint(encoder),
                    "input": None if taken is None else _spelled(taken),
                    "of": manifest["modalities"][modality],
                },
            }
    finish_store(
        folder,
        name=manifest["name"],
        class_names=manifest["class_names"],
        modalities=modalities,
        splits={
            key: NamedSplit(store.split(key), about["description"], about["group"])
            for key, about in manifest["splits"].items()
        },
        default_split=manifest["default_split"],
        options={**manifest["options"], "embedded_from": store.fingerprint},
        sources=json.loads((store.folder / SOURCES).read_text(encoding="utf-8")),
        failures=manifest["failures"],
        versions={**manifest["versions"], "torch": torch.__version__},
    )


def _features(
    rows: Rows,
    taken: Input | None,
    encoder: nn.Module,
    batch_size: int,
    device: str,
    progress: Progress,
) -> np.ndarray:
    """Encode all rows: (N, D) float32; the encoder is left as it was found."""
    was_training = {module: module.training for module in encoder.modules()}
    first = next(encoder.parameters(), None)
    home = first.device if first is not None else torch.device(device)
    found = np.empty((len(rows), int(encoder.out_features)), dtype=np.float32)  # type: ignore[arg-type]
    encoder.eval().to(device)
    try:
        with torch.inference_mode():
            for start in range(0, len(rows), batch_size):
                numbers = torch.arange(start, min(start + batch_size, len(rows)))
                batch = rows.index_select(0, numbers).to(device)
                batch = batch if taken is None else taken(batch)
                found[numbers.numpy()] = encoder(batch).float().cpu().numpy()
                for _ in range(len(numbers)):
                    progress.advance(is_bad=False)
    finally:
        encoder.to(home)
        for module, mode in was_training.items():
            module.training = mode
    return found


def _spelled(taken: Input) -> dict[str, Any]:
    """Spell what was done to the rows, JSON-able."""
    plain = {key: list(v) if isinstance(v, tuple) else v for key, v in vars(taken).items()}
    return {"input": type(taken).__name__, **plain}


def _fingerprint(encoder: nn.Module) -> str:
    """Hash an encoder's weights: SHA-256 as hexadecimal text."""
    digest = hashlib.sha256()
    for name, values in sorted(encoder.state_dict().items()):
        plain = values.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
