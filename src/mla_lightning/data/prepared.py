"""Training on a prepared store: ``mla data prepare`` and ``mla data import`` make them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mla_lightning.data.base import SPLITS, MultimodalDataModule, Split
from mla_lightning.data.mapped import MappedArray
from mla_lightning.data.store import OpenStore, open_store
from mla_lightning.errors import ConfigError, DataError, near


class AsFloat:
    """Rows of a file in the form that encoders take.

    ``image`` uint8 (3, H, W) becomes float32 in [0, 1]; ``frames`` (T, 3, H, W) becomes float32 in
    [0, 1] of (3, T, H, W); ``spectrogram`` (T, F) float32 of (1, T, F); ``features`` float32;
    ``tokens`` stay int64. Then the mean is taken off, and the deviation divided by.
    """

    def __init__(self, rows: MappedArray, kind: str, mean: float = 0.0, std: float = 1.0) -> None:
        """Remember the rows, what they are, and how they are scaled."""
        self.rows, self.kind, self.mean, self.std = rows, kind, mean, std

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Read rows: (B, ...)."""
        values = self.rows.index_select(dim, index)
        if values.dtype == torch.int64:
            return values
        values = values.float() / 255 if values.dtype == torch.uint8 else values.float()
        if (self.mean, self.std) != (0.0, 1.0):
            values = (values - self.mean) / self.std
        if self.kind == "frames":
            return values.transpose(1, 2)
        return values[:, None] if self.kind == "spectrogram" else values


class Prepared(MultimodalDataModule):
    """Any prepared store; its rows stay on the disk and are read batch by batch.

    Inputs come as :class:`AsFloat` says, by the kind that the manifest tells.
    """

    def __init__(
        self,
        *,
        path: str | Path,
        split: str | None = None,
        normalise: Mapping[str, Sequence[float]] | None = None,
        **options: Any,
    ) -> None:
        """Open the store; no array is read.

        Args:
            path: Folder of the store.
            split: Name of one of its splits; None for its default one.
            normalise: Modality -> mean and standard deviation, of images and frames in [0, 1];
                modalities left out are taken as they are.
            **options: Options of every data set: ``batch_size`` and others.

        Raises:
            ConfigError: If ``normalise`` names a modality that is not there or holds tokens, or is
                not a mean and a positive deviation.
            DataError: If there is no complete store, or no such split; the message says what to do.
        """
        self.store: OpenStore = open_store(Path(path).expanduser())
        manifest = self.store.manifest
        self.name = str(manifest["name"])
        self.all_modalities = self.store.modalities
        self.class_names = tuple(manifest["class_names"])
        self.split_name = split or str(manifest["default_split"])
        self._codes = self.store.split(self.split_name)
        self.normalise = {
            name: self._checked(name, values) for name, values in (normalise or {}).items()
        }
        super().__init__(**options)

    def _checked(self, modality: str, values: Sequence[float]) -> tuple[float, float]:
        if modality not in self.all_modalities:
            raise ConfigError(
                f"data.normalise.{modality}: {self.name} has no such modality."
                f"{near(modality, self.all_modalities)}"
            )
        if self.store.manifest["modalities"][modality]["kind"] == "tokens":
            raise ConfigError(f"data.normalise.{modality}: tokens have no mean")
        if len(values) != 2 or values[1] <= 0:
            raise ConfigError(
                f"data.normalise.{modality} must be [mean, deviation > 0], got {list(values)}"
            )
        return float(values[0]), float(values[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the store's arrays and of the split, from its manifest."""
        split = self.store.manifest["arrays"][f"split.{self.split_name}.npy"]["sha256"]
        return hashlib.sha256(f"{self.store.fingerprint} {split}".encode()).hexdigest()

    def load_splits(self) -> Mapping[str, Split]:
        """Map the store's arrays.

        Returns:
            Split -> rows of the store; all splits share its files.

        Raises:
            DataError: If training samples lack a modality in use: no method here leaves it out in
                training, and zeros in its place would be learnt from.
        """
        about = self.store.manifest["modalities"]
        inputs = {
            name: AsFloat(
                self.store.array(name), about[name]["kind"], *self.normalise.get(name, ())
            )
            for name in self.modalities
        }
        present = {name: self.store.present(name) for name in self.modalities}
        train = self._codes == SPLITS.index("train")
        for name, mask in present.items():
            if mask is not None and not mask[train].all():
                others = [other for other in self.modalities if other != name]
                raise DataError(
                    f"{self.name}: {int((~mask[train]).sum())} of {int(train.sum())} training "
                    f"samples lack {name!r}, and methods train on complete samples. Leave the "
                    f"modality out (modalities=[{','.join(others)}]), or the samples."
                )
        splits = {}
        for code, part in enumerate(SPLITS):
            rows = np.flatnonzero(self._codes == code)
            splits[part] = Split(
                inputs,
                torch.from_numpy(self.store.label[rows].astype(np.int64)),
                {
                    n: torch.from_numpy(mask[rows])
                    for n, mask in present.items()
                    if mask is not None
                },
                torch.from_numpy(rows),
            )
        return splits

    def describe(self) -> dict[str, Any]:
        """Summarise the data for the record of a run.

        Returns:
            What every data set tells, and of the split its ``description`` and ``overlap``:
            attribute -> number of values that occur both in train and in test, such as speakers.
        """
        about = self.store.manifest["splits"][self.split_name]
        shared = {name: entry["num"] for name, entry in about["overlap"].items()}
        return super().describe() | {"description": about["description"], "overlap": shared}
