"""Training on a prepared store: ``mla data prepare`` and ``mla data import`` make them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mla_lightning.data.base import SPLITS, MultimodalDataModule, Split
from mla_lightning.data.default_encoders import default_encoders
from mla_lightning.data.store import OpenStore, open_store
from mla_lightning.errors import ConfigError, near
from mla_lightning.inputs.base import Input
from mla_lightning.inputs.features import Features
from mla_lightning.inputs.images import Images
from mla_lightning.inputs.spectrograms import Spectrograms

#: Attributes that say in words what a row of tokens holds.
TEXTS = ("text", "title", "transcript", "name")
#: Kind of a store's arrays -> how they are taken unless the config says otherwise.
USUAL: Mapping[str, type[Input]] = {
    kind: taken for taken in (Features, Images, Spectrograms) for kind in sorted(taken.kinds)
}


class Prepared(MultimodalDataModule):
    """Any prepared store; its rows stay on the disk and are read batch by batch.

    Batches hold rows as they are stored, such as bytes of images, so that little is moved to the
    device; there :attr:`inputs` turn them into what encoders take. Tokens stay as they are.
    """

    def __init__(
        self,
        *,
        path: str | Path | None,
        split: str | None = None,
        inputs: Mapping[str, Input] | None = None,
        **options: Any,
    ) -> None:
        """Open the store; no array is read.

        Args:
            path: Folder of the store.
            split: Name of one of its splits; None for its default one.
            inputs: Modality -> how its rows are scaled, and augmented in training; modalities left
                out are taken as they are, images and frames in [0, 1].
            **options: Options of every data set: ``batch_size`` and others.

        Raises:
            ConfigError: If there is no path, or ``inputs`` names a modality that is not there or
                holds something else.
            DataError: If there is no complete store, or no such split; the message says what to do.
        """
        if path is None:
            raise ConfigError(
                "data.path is not set: which store? For example: "
                "mla train data=store data.path=data/mfeat"
            )
        self.store: OpenStore = open_store(Path(path).expanduser())
        manifest = self.store.manifest
        self.name = str(manifest["name"])
        self.all_modalities = self.store.modalities
        self.class_names = tuple(manifest["class_names"])
        self.split_name = split or str(manifest["default_split"])
        self._codes = self.store.split(self.split_name)
        self._inputs = dict(inputs or {})
        for name, taken in self._inputs.items():
            self._check_input(name, taken)
        super().__init__(**options)

    def _check_input(self, modality: str, taken: Input) -> None:
        if modality not in self.all_modalities:
            raise ConfigError(
                f"data.inputs.{modality}: {self.name} has no such modality."
                f"{near(modality, self.all_modalities)}"
            )
        kind = self.store.manifest["modalities"][modality]["kind"]
        if kind not in taken.kinds:
            fits = f" Use {USUAL[kind].__name__}." if kind in USUAL else " Leave it out."
            raise ConfigError(
                f"data.inputs.{modality}: {type(taken).__name__} takes "
                f"{' and '.join(sorted(taken.kinds))}, the store holds {kind}.{fits}"
            )

    @property
    def inputs(self) -> dict[str, Input]:
        """How the rows of each modality in use become what its encoder takes."""
        about = self.store.manifest["modalities"]
        usual = {
            name: USUAL[about[name]["kind"]]()
            for name in self.modalities
            if about[name]["kind"] in USUAL
        }
        found = usual | {k: v for k, v in self._inputs.items() if k in self.modalities}
        for name, taken in found.items():
            if isinstance(taken, Images) and taken.frames_per_segment is None:
                taken.frames_per_segment = about[name]["options"].get("frames_per_segment", 1)
        return found

    def usual_encoders(self) -> Mapping[str, Mapping[str, Any]]:
        """Return configs of small encoders; see :func:`default_encoders`."""
        return default_encoders(self.store, self.modalities)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the store's arrays and of the split, from its manifest."""
        split = self.store.manifest["arrays"][f"split.{self.split_name}.npy"]["sha256"]
        return hashlib.sha256(f"{self.store.fingerprint} {split}".encode()).hexdigest()

    def load_splits(self) -> Mapping[str, Split]:
        """Map the store's arrays.

        Returns:
            Split -> rows of the store; all splits share its files.
        """
        inputs = {name: self.store.array(name) for name in self.modalities}
        present = {name: self.store.present(name) for name in self.modalities}
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

    def called(self, split: str, numbers: Sequence[int]) -> list[str]:
        """Tell the samples' ids, and what their texts say where the store keeps it."""
        rows = np.flatnonzero(self._codes == SPLITS.index(split))[list(numbers)]
        said = next((name for name in TEXTS if name in self.store.attributes), None)
        texts = None if said is None else self.store.attribute(said)
        return [
            str(self.store.ids[row]) + (f": {texts[row]}" if texts is not None else "")
            for row in rows.tolist()
        ]

    def describe(self) -> dict[str, Any]:
        """Summarise the data for the record of a run.

        Returns:
            What every data set tells, and of the split its ``description`` and ``overlap``:
            attribute -> number of values that occur both in train and in test, such as speakers.
        """
        about = self.store.manifest["splits"][self.split_name]
        shared = {name: entry["num"] for name, entry in about["overlap"].items()}
        return super().describe() | {"description": about["description"], "overlap": shared}
