"""Description of a prepared store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.data.column_scales import SCALES
from mla_lightning.data.default_encoders import default_encoders
from mla_lightning.data.descriptions.base import DataDescription
from mla_lightning.data.scratch import check_scratch
from mla_lightning.data.splits import TRAIN, held_out_part
from mla_lightning.data.store import OpenStore, open_store
from mla_lightning.data.targets import targets_of
from mla_lightning.errors import ConfigError, near
from mla_lightning.functional.schedule import epochs_of_steps
from mla_lightning.inputs.base import Input
from mla_lightning.inputs.features import Features
from mla_lightning.inputs.images import Images
from mla_lightning.inputs.spectrograms import Spectrograms

#: Kind of a store's arrays -> conversion of its rows, unless the config names another.
DEFAULT_INPUTS: Mapping[str, type[Input]] = {
    kind: cls for cls in (Features, Images, Spectrograms) for kind in sorted(cls.kinds)
}


class PreparedDescription(DataDescription):
    """A store that is open, as :class:`~mla_lightning.data.prepared.Prepared` reads it.

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
        if not any(k in Features.kinds and m not in self._inputs for m, k in kinds.items()):
            listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
            raise ConfigError(
                f"data.scale={scale} has no effect: {self.name} has no features that data.inputs "
                f"does not convert. It has: {listed}. Leave data.scale out."
            )

    def default_encoders(self) -> Mapping[str, Mapping[str, Any]]:
        """Return configs of small encoders; see :func:`default_encoders`."""
        return default_encoders(self.store, self.modalities)

    @property
    def default_epochs(self) -> int:
        """Number of epochs of ``trainer.max_epochs=auto``: about 2,000 steps on imported data."""
        if self.store.defaults < 2:
            return super().default_epochs
        return epochs_of_steps(self.num_train, self.batch_size)

    @cached_property
    def is_held_out(self) -> np.ndarray:
        """Which samples of train are held out, (N,) bool; those of a group are or are not."""
        rows = np.flatnonzero(self._codes == TRAIN)
        if not (self.held_out and self.store.is_labelled):
            return np.zeros(len(rows), dtype=bool)
        label = self.store.label[rows]
        strata = targets_of(self.task, self.name).strata(label, self.class_names)
        name = self.store.manifest["splits"][self.split_name].get("group")
        values = self.store.attribute(name) if name in self.store.attributes else None
        groups = None if values is None else [values[row] for row in rows.tolist()]
        return held_out_part(strata, self.held_out, groups)

    @property
    def num_train(self) -> int:
        """Number of samples of the named split to train on, without those that are held out."""
        return int((~self.is_held_out).sum())

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
