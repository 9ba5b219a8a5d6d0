"""Data set of a prepared store, as ``mla data prepare`` and ``mla data import`` make it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mla_lightning.data.base import MultimodalDataModule, Split
from mla_lightning.data.column_scales import SCALES, ColumnScales, cached_scales, column_scales
from mla_lightning.data.descriptions.prepared import DEFAULT_INPUTS, PreparedDescription
from mla_lightning.data.loading import ArrayDataset
from mla_lightning.data.manifest import TEXTS
from mla_lightning.data.mapped import MappedArray
from mla_lightning.data.scratch import check_rows, copy_rows
from mla_lightning.data.splits import SPLITS
from mla_lightning.data.stored_inputs import stored_inputs
from mla_lightning.data.targets import targets_of
from mla_lightning.errors import DataError
from mla_lightning.inputs.base import Input
from mla_lightning.inputs.images import Images
from mla_lightning.inputs.scaled_columns import ScaledColumns
from mla_lightning.paths import command, path_override


class Prepared(PreparedDescription, MultimodalDataModule):  # type: ignore[misc]  # name
    """A prepared store, whose rows stay on disk and are read batch by batch.

    Batches hold rows as they are stored, such as bytes of images, so that few bytes are copied to
    the device; there :attr:`inputs` convert them to the inputs of encoders. Tokens are not
    converted.
    """

    @property
    def scales(self) -> dict[str, str]:
        """Modality of features in use -> how its columns are scaled; those not scaled left out."""
        entries = {name: self.store.manifest["modalities"][name] for name in self.modalities}
        scales = {
            name: str(self._scale or entry.get("scale") or "none")
            for name, entry in entries.items()
            if entry["kind"] in ScaledColumns.kinds and name not in self._inputs
        }
        if unknown := sorted(set(scales.values()) - set(SCALES)):
            raise DataError(
                f"{self.store.folder} asks for the scale {unknown[0]!r}, which this version does "
                "not know. Choose one: data.scale=standard"
            )
        return {name: scale for name, scale in scales.items() if scale != "none"}

    def _scaled_columns(self, modality: str, scale: str) -> ScaledColumns:
        """Return the scaling of a modality, by the numbers of the samples to train on."""
        rows, present = self.store.array(modality), self.store.present(modality)

        def compute() -> ColumnScales:
            if self._scratch is not None:  # the rows were not compared when the store was opened
                check_rows(self.store, modality)
            return column_scales(rows, numbers, scale)

        numbers = np.flatnonzero(self._codes == SPLITS.index("train"))[~self.is_held_out]
        if present is not None:
            numbers = numbers[present[numbers]]
        arrays = self.store.manifest["arrays"]
        files = (f"{modality}.npy", f"{modality}.present.npy", f"split.{self.split_name}.npy")
        hashes = [arrays.get(file, {}).get("sha256") for file in files]
        content = [scale, *hashes, *([self.held_out] if self.held_out else [])]
        key = hashlib.sha256(" ".join(map(str, content)).encode()).hexdigest()
        scales = cached_scales(self.store.folder, key, compute, rows.shape[-1])
        return ScaledColumns(scales.mean, scales.factor, is_log=scales.is_log)

    @property
    def inputs(self) -> dict[str, Input]:
        """Modality in use -> conversion of its rows to its encoder's input."""
        metadata = {name: self.store.manifest["modalities"][name] for name in self.modalities}
        conversions = {
            name: self._inputs.get(name) or DEFAULT_INPUTS[entry["kind"]]()
            for name, entry in metadata.items()
            if name in self._inputs or entry["kind"] in DEFAULT_INPUTS
        }
        for name, conversion in conversions.items():
            if isinstance(conversion, Images) and conversion.frames_per_segment is None:
                options = metadata[name]["options"]
                conversion.frames_per_segment = options.get("frames_per_segment", 1)
        scaled = {name: self._scaled_columns(name, how) for name, how in self.scales.items()}
        return conversions | scaled

    def everything(self) -> ArrayDataset:
        """Return all samples of the store in its order, whatever their split.

        Without labels in the store, they are -1 (N,) int64, whatever the task of a run.
        """
        present = {name: self.store.present(name) for name in self.modalities}
        return ArrayDataset(
            self._rows(),
            targets_of(self.task, self.name).tensor(self.store.label),
            rows=torch.arange(len(self.store)),
            present={m: torch.from_numpy(has) for m, has in present.items() if has is not None},
        )

    def _rows(self) -> dict[str, MappedArray]:
        """Open the rows of the modalities in use, of their copy if they are copied."""
        if self._scratch is not None and self.rows_folder is None:
            self.rows_folder = copy_rows(self.store, self.modalities, self._scratch)
        folder = self.rows_folder or self.store.folder
        return {name: MappedArray(folder / f"{name}.npy") for name in self.modalities}

    def load_splits(self) -> Mapping[str, Split]:
        """Map the store's arrays.

        Returns:
            Split -> rows of the store; all splits share its files.

        Raises:
            DataError: If the store has no labels.
        """
        if not self.store.is_labelled:
            raise DataError(
                f"{self.store.folder} has no labels, so nothing can be trained or scored on it. "
                "Predict its samples: "
                + command("mla", "predict", "RUN", path_override("data.path", self.store.folder))
            )
        inputs = self._rows()
        present = {name: self.store.present(name) for name in self.modalities}
        splits = {}
        for code, split in enumerate(SPLITS):
            rows = np.flatnonzero(self._codes == code)
            masks = {n: torch.from_numpy(m[rows]) for n, m in present.items() if m is not None}
            label = targets_of(self.task, self.name).tensor(self.store.label[rows])
            splits[split] = Split(inputs, label, masks, torch.from_numpy(rows))
        return splits

    def part_to_hold_out(self, train: Split) -> np.ndarray:
        """Return which samples of train are held out (N,) bool."""
        return self.is_held_out

    def sample_names(self, split: str, numbers: Sequence[int]) -> list[str]:
        """Return the samples' ids, and their texts if the store has them as an attribute."""
        rows = np.flatnonzero(self._codes == SPLITS.index(split))[list(numbers)]
        attribute = next((name for name in TEXTS if name in self.store.attributes), None)
        texts = None if attribute is None else self.store.attribute(attribute)
        return [
            str(self.store.ids[row]) + (f": {texts[row]}" if texts is not None else "")
            for row in rows.tolist()
        ]

    def describe(self) -> dict[str, Any]:
        """Summarise the data for the record of a run.

        Returns:
            The entries of every data set, and of the named split its ``description`` and
            ``overlap``: attribute -> number of values, such as speakers, that occur both in train
            and in test. If features are scaled, also ``scale``: modality -> how. ``inputs`` is how
            the inputs were made, see :func:`~mla_lightning.data.stored_inputs.stored_inputs`.
        """
        entry = self.store.manifest["splits"][self.split_name]
        overlap = {name: shared["num"] for name, shared in entry["overlap"].items()}
        scale = {"scale": self.scales} if self.scales else {}
        return super().describe() | {
            "description": entry["description"],
            "overlap": overlap,
            "inputs": self.describe_inputs(),
            **scale,
        }

    def describe_inputs(self) -> dict[str, Any]:
        """Return how the inputs of each modality in use were made; see :func:`stored_inputs`."""
        return stored_inputs(self.store.manifest, self.modalities)
