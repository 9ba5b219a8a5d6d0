"""Data set of a prepared store, as ``mla data prepare`` and ``mla data import`` make it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mla_lightning.data.base import MultimodalDataModule, Split
from mla_lightning.data.column_scales import SCALES, ColumnScales, cached_scales, column_scales
from mla_lightning.data.default_encoders import default_encoders
from mla_lightning.data.loading import ArrayDataset
from mla_lightning.data.mapped import MappedArray
from mla_lightning.data.scratch import check_rows, check_scratch, copy_rows
from mla_lightning.data.splits import SPLITS
from mla_lightning.data.store import OpenStore, open_store
from mla_lightning.data.stored_inputs import stored_inputs
from mla_lightning.data.targets import targets_of
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.functional.schedule import epochs_of_steps
from mla_lightning.inputs.base import Input
from mla_lightning.inputs.features import Features, ScaledColumns
from mla_lightning.inputs.images import Images
from mla_lightning.inputs.spectrograms import Spectrograms
from mla_lightning.paths import command, path_override

#: Attributes with the text that a row of tokens stands for.
TEXTS = ("text", "title", "transcript", "name")
#: Kind of a store's arrays -> conversion of its rows, unless the config names another.
DEFAULT_INPUTS: Mapping[str, type[Input]] = {
    kind: cls for cls in (Features, Images, Spectrograms) for kind in sorted(cls.kinds)
}


class Prepared(MultimodalDataModule):
    """A prepared store, whose rows stay on disk and are read batch by batch.

    Batches hold rows as they are stored, such as bytes of images, so that few bytes are copied to
    the device; there :attr:`inputs` convert them to the inputs of encoders. Tokens are not
    converted.

    Attributes:
        rows_folder: Folder of the copy that rows are read from (``scratch``), once it is used; None
            for the store's own.
    """

    def __init__(
        self,
        *,
        path: str | Path | None,
        split: str | None = None,
        inputs: Mapping[str, Input] | None = None,
        scale: str | None = None,
        scratch: str | None = None,
        **options: Any,
    ) -> None:
        """Open the store; no array is read.

        Args:
            path: Folder of the store.
            split: Name of one of its named splits; None for its default one.
            inputs: Modality -> conversion of its rows: scale, and augmentation in training; by
                default images and frames are scaled to [0, 1], features as ``scale`` says, and
                others are not scaled.
            scale: Scaling of each column of the features without an entry in ``inputs``, by numbers
                of the training split's samples that have the modality: ``none``, ``standard``,
                ``robust`` or ``log``, see :func:`~mla_lightning.data.column_scales.column_scales`;
                None for what the store says.
            scratch: Folder on a disk of the machine that trains. The rows are copied there once,
                for all jobs of that machine, and read from the copy; None to read them from the
                store. It changes no number. ``~`` and variables such as ``$SLURM_TMPDIR`` are
                those of that machine.
            **options: Options of every data set: ``batch_size`` and others.

        Raises:
            ConfigError: If there is no path, or ``inputs`` has a modality that the store does not
                have or whose kind does not fit, or ``scale`` is unknown or has no effect.
            DataError: If there is no complete store, or no such split; the message says what to do.
        """
        if path is None or not str(path).strip():
            raise ConfigError(
                f"data.path is {'not set' if path is None else 'empty'}: which store? For example: "
                "mla train data=store data.path=data/mfeat"
            )
        if scratch is not None:
            check_scratch(scratch)
        self._scratch = scratch
        self.rows_folder: Path | None = None
        self.store: OpenStore = open_store(Path(path).expanduser(), reads_rows=scratch is None)
        manifest = self.store.manifest
        self.name = str(manifest["name"])
        self.all_modalities = self.store.modalities
        self.task = self.store.task
        self.class_names = tuple(manifest["class_names"])
        self.split_name = split or str(manifest["default_split"])
        self._codes = self.store.split(self.split_name)
        self._inputs = dict(inputs or {})
        for name, conversion in self._inputs.items():
            self._check_input(name, conversion)
        self._check_scale(scale)
        self._scale = scale
        super().__init__(**options)

    def _check_input(self, modality: str, conversion: Input) -> None:
        if modality not in self.all_modalities:
            raise ConfigError(
                f"data.inputs.{modality}: {self.name} has no such modality."
                f"{near(modality, self.all_modalities)}"
            )
        kind = self.store.manifest["modalities"][modality]["kind"]
        if kind not in conversion.kinds:
            default = DEFAULT_INPUTS.get(kind)
            hint = f" Use {default.__name__}." if default else " Leave it out."
            raise ConfigError(
                f"data.inputs.{modality}: {type(conversion).__name__} takes "
                f"{' and '.join(sorted(conversion.kinds))}, the store holds {kind}.{hint}"
            )

    def _check_scale(self, scale: str | None) -> None:
        if scale is None:
            return
        if scale not in SCALES:
            raise ConfigError(
                f"data.scale={scale} is unknown.{near(str(scale), SCALES)} Known: "
                f"{', '.join(SCALES)}; null for what the store says."
            )
        entries = self.store.manifest["modalities"]
        kinds = {name: entry["kind"] for name, entry in entries.items()}
        if not any(k in ScaledColumns.kinds and m not in self._inputs for m, k in kinds.items()):
            listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
            raise ConfigError(
                f"data.scale={scale} has no effect: {self.name} has no features that data.inputs "
                f"does not convert. It has: {listed}. Leave data.scale out."
            )

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
        """Return the scaling of a modality, by the numbers of the training split."""
        rows, present = self.store.array(modality), self.store.present(modality)

        def compute() -> ColumnScales:
            if self._scratch is not None:  # the rows were not compared when the store was opened
                check_rows(self.store, modality)
            return column_scales(rows, numbers, scale)

        numbers = np.flatnonzero(self._codes == SPLITS.index("train"))
        if present is not None:
            numbers = numbers[present[numbers]]
        arrays = self.store.manifest["arrays"]
        files = (f"{modality}.npy", f"{modality}.present.npy", f"split.{self.split_name}.npy")
        hashes = [arrays.get(file, {}).get("sha256") for file in files]
        key = hashlib.sha256(" ".join(map(str, [scale, *hashes])).encode()).hexdigest()
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

    def default_encoders(self) -> Mapping[str, Mapping[str, Any]]:
        """Return configs of small encoders; see :func:`default_encoders`."""
        return default_encoders(self.store, self.modalities)

    @property
    def default_epochs(self) -> int:
        """Number of epochs of ``trainer.max_epochs=auto``: about 2,000 steps on imported data."""
        if self.store.defaults < 2:
            return super().default_epochs
        return epochs_of_steps(self.num_train, self.batch_size)

    @property
    def num_train(self) -> int:
        """Number of training samples of the named split, which the store records."""
        return int((self._codes == SPLITS.index("train")).sum())

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Modalities in use that some sample of the named split lacks."""
        in_use = self._codes >= 0
        present = {name: self.store.present(name) for name in self.modalities}
        return tuple(n for n, has in present.items() if has is not None and not has[in_use].all())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the store's arrays and of the named split, from the manifest."""
        split = self.store.manifest["arrays"][f"split.{self.split_name}.npy"]["sha256"]
        return hashlib.sha256(f"{self.store.fingerprint} {split}".encode()).hexdigest()

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
