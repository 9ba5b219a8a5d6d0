"""What every data set has in common: checked splits in memory, and loaders that can resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from mla_lightning.data.loading import (
    ArrayDataset,
    Hiding,
    Rows,
    SequentialOrder,
    TrainLoader,
    TrainOrder,
    check_finite,
    options_of,
)
from mla_lightning.data.missing import Missing, manifest_hash, write_manifest
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.inputs.base import Input

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """The samples of one split.

    Attributes:
        inputs: Modality -> (N, ...), or more rows, of which ``rows`` tells those of the split.
        label: (N,) int64, from 0 to the number of classes minus 1.
        present: Modality -> (N,) bool, False where a sample lacks the modality; modalities that no
            sample lacks may be left out.
        rows: (N,) int64, the row of each sample in ``inputs``, for splits that share one file; None
            where ``inputs`` are the split's own.
    """

    inputs: Mapping[str, Rows]
    label: Tensor
    present: Mapping[str, Tensor] | None = None
    rows: Tensor | None = None


class MultimodalDataModule(LightningDataModule):
    """A data set of several modalities.

    A data set sets ``name``, ``all_modalities`` and ``class_names``, as class attributes or before
    it calls this class's constructor, and defines :meth:`load_splits` and :attr:`fingerprint`.

    Attributes:
        name: What the data set is called in files and tables.
        all_modalities: Every modality it has.
        modalities: Those in use, in order.
        class_names: The classes, in the order of the labels.
        split_name: How the data are split, in short, for the record of a run.
        splits: ``train``, ``val`` and ``test``, once set up.
    """

    name: str
    all_modalities: tuple[str, ...]
    class_names: tuple[str, ...]
    split_name: str = "own"

    def __init__(
        self,
        *,
        batch_size: int,
        seed: int = 0,
        modalities: Sequence[str] | None = None,
        num_workers: int = 0,
        eval_batch_size: int = 256,
        missing: Missing | None = None,
    ) -> None:
        """Check the options; nothing is read yet.

        Args:
            batch_size: Samples per training batch. The last batch of an epoch may be smaller.
            seed: The run's seed; the order of training is a function of it and of the epoch.
            modalities: The modalities to use, in this order; None for all.
            num_workers: Worker processes per loader; 0 is fastest for data held in memory. The
                batches are the same with any number.
            eval_batch_size: Samples per batch of evaluation.
            missing: Hides modalities of samples; None for none.

        Raises:
            ConfigError: If a number is out of range or a modality is unknown or given twice.
        """
        super().__init__()
        for option, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise ConfigError(f"data.{option} must be at least {least}, got {value}")
        self.modalities = _chosen(modalities, self.all_modalities, self.name)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers, self.seed = num_workers, seed
        if missing is not None:
            missing.check(self.modalities)
        self.missing = missing
        #: Split -> (N, M) bool, true where a sample has a modality that is not hidden, once set up.
        self.masks: dict[str, Tensor] = {}
        self.splits: dict[str, ArrayDataset] = {}

    # ------------------------------------------------------------------ what a data set defines

    def load_splits(self) -> Mapping[str, Split]:
        """Read the data.

        Returns:
            ``train``, ``val`` and ``test``; inputs of modalities that are not in use may be left
            out.

        Raises:
            DataError: If files are missing or broken.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define load_splits")

    @property
    def fingerprint(self) -> str:
        """SHA-256, as hexadecimal text, of data, split and preprocessing; before :meth:`setup`."""
        raise NotImplementedError(f"{type(self).__name__} does not define fingerprint")

    def transform(
        self, inputs: dict[str, Tensor], generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        """Change one training sample at random; a data set that augments redefines this.

        Args:
            inputs: One sample, modality -> tensor without batch axis.
            generator: Source of all random numbers, a function of seed, epoch and sample.

        Returns:
            The sample to train with; every epoch's shapes must be equal. By default as it is.
        """
        return inputs

    @property
    def inputs(self) -> Mapping[str, Input]:
        """Modality -> what turns its rows into what encoders take, on the device.

        Modalities whose rows go to encoders as they are, by default all, are left out.
        """
        return {}

    def usual_encoders(self) -> Mapping[str, Mapping[str, Any]]:
        """Modality in use -> config of its encoder where the run's names none; by default none."""
        return {}

    # ------------------------------------------------------------------ what a data set has

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return len(self.class_names)

    def setup(self, stage: str | None = None) -> None:
        """Read and check the data, once.

        Args:
            stage: Ignored: all splits are read together.

        Raises:
            DataError: If a split is empty, its parts differ in length, a label is out of range, a
                class has no training sample, or an input is not finite.
        """
        if self.splits:
            return
        loaded = self.load_splits()
        is_transformed = type(self).transform is not MultimodalDataModule.transform
        splits = {}
        for split in SPLITS:
            if split not in loaded:
                raise DataError(f"{self.name} has no split {split!r}.{near(split, loaded)}")
            arrays = loaded[split]
            self._check(split, arrays)
            splits[split] = ArrayDataset(
                {name: arrays.inputs[name] for name in self.modalities},
                arrays.label,
                rows=arrays.rows,
                present=arrays.present,
                transform=self.transform if is_transformed and split == "train" else None,
                seed=self.seed,
            )
        self._check_classes(splits["train"].label)
        self.splits = splits
        self._hide()

    @property
    def is_complete(self) -> bool:
        """Whether, as far as methods are told, every sample has every modality."""
        self.setup()
        if self.missing is not None and self.missing.policy == "drop":
            return False
        return all(bool(m.all()) for data in self.splits.values() for m in data.present.values())

    def _hide(self) -> None:
        """Hide modalities as asked for; every sample keeps one, and every modality some."""
        own = {part: torch.stack([*d.present.values()], dim=1) for part, d in self.splits.items()}
        for part, has in own.items():
            if not has.any(dim=1).all():
                row = int((~has.any(dim=1)).nonzero()[0])
                raise DataError(
                    f"{self.name}, split {part!r}: sample {row} has none of "
                    f"{', '.join(self.modalities)}. Take it out of the data."
                )
        self.masks = own
        if self.missing is not None:
            drawn = self.missing.masks(own, self._masks_are_of(), self.seed)
            self.masks = {**own, **drawn}
            for part, mask in drawn.items():
                hiding = Hiding(partial(_same, mask), tells=self.missing.policy == "drop")
                if part == "train" and self.missing.resample_train_masks:
                    given = (own[part], self.modalities, self.seed, self.split_name)
                    hiding.mask = lru_cache(maxsize=2)(partial(self.missing.redrawn, *given))
                self.splits[part].hiding = hiding
        for name, has in zip(self.modalities, self.masks["train"].any(dim=0).tolist(), strict=True):
            if not has:
                raise DataError(
                    f"{self.name}: {name!r} is never there in training, so nothing can be learnt "
                    f"of it. Leave it out (modalities), or lower missing.rate."
                )

    def _masks_are_of(self) -> dict[str, Any]:
        return {
            "data": self.fingerprint,
            "split": self.split_name,
            "modalities": list(self.modalities),
        }

    def write_masks(self, folder: Path) -> None:
        """Keep the masks as a file that other runs and people can read.

        Masks that come from such a file are not written again.

        Args:
            folder: Where to.
        """
        assert self.missing is not None
        if self.missing.manifest is not None:
            return
        about = {**self._masks_are_of(), "name": self.name, "seed": self.seed, **self.missing.law}
        digest = f"{manifest_hash(self.masks)[:10]}-{self.fingerprint[:6]}"
        path = folder / f"{self.name}-{self.missing.sampler}-seed{self.seed}-{digest}.npz"
        ids = {part: self.called(part, range(len(mask))) for part, mask in self.masks.items()}
        write_manifest(path, self.masks, ids, about)

    def keep_truth(self) -> None:
        """Let training batches hold hidden inputs, too, for methods that learn to reconstruct."""
        hiding = self.splits["train"].hiding
        if hiding is not None:
            hiding.keeps_truth = True

    def describe(self) -> dict[str, Any]:
        """Summarise the data for the record of a run.

        Returns:
            ``split`` (the split's name), ``modalities``, ``num_train``, ``num_val``, ``num_test``,
            and ``class_counts`` (split -> class -> number of samples).
        """
        self.setup()
        counts = {
            split: torch.bincount(data.label, minlength=self.num_classes).tolist()
            for split, data in self.splits.items()
        }
        return {
            "split": self.split_name,
            "modalities": list(self.modalities),
            **{f"num_{split}": len(data) for split, data in self.splits.items()},
            "class_counts": {
                split: dict(zip(self.class_names, values, strict=True))
                for split, values in counts.items()
            },
        }

    def called(self, split: str, numbers: Sequence[int]) -> list[str]:
        """Tell what people call samples of a split; by default their numbers."""
        return [f"{split} {number}" for number in numbers]

    # ------------------------------------------------------------------ loaders

    def train_dataloader(self) -> TrainLoader:
        """Return a loader of the training split, shuffled anew each epoch, at the first epoch."""
        data = self._split("train")
        order = TrainOrder(len(data), self.batch_size, self.seed)
        return TrainLoader(data, sampler=order, **options_of(self.num_workers))

    def val_dataloader(self) -> DataLoader:
        """Return a loader of the validation split, in its own order."""
        return self.loader("val")

    def test_dataloader(self) -> DataLoader:
        """Return a loader of the test split, in its own order."""
        return self.loader("test")

    def loader(self, split: str) -> DataLoader:
        """Return a loader for evaluation.

        Args:
            split: ``train``, ``val`` or ``test``.

        Returns:
            A loader of the split in its own order, without random transforms.

        Raises:
            ConfigError: If there is no such split.
        """
        data = self._split(split)
        if data.transform is not None or (data.hiding and data.hiding.keeps_truth):
            hiding = replace(data.hiding, keeps_truth=False) if data.hiding else None
            data = ArrayDataset(
                data.inputs, data.label, rows=data.rows, present=data.present, hiding=hiding
            )
        order = SequentialOrder(len(data), self.eval_batch_size)
        return DataLoader(data, sampler=order, **options_of(self.num_workers))

    def _split(self, split: str) -> ArrayDataset:
        if split not in SPLITS:
            raise ConfigError(
                f"{self.name} has no split {split!r}.{near(split, SPLITS)} "
                f"Known: {', '.join(SPLITS)}."
            )
        self.setup()
        return self.splits[split]

    # ------------------------------------------------------------------ checks

    def _check(self, split: str, arrays: Split) -> None:
        where = f"{self.name}, split {split!r}"
        if missing := [name for name in self.modalities if name not in arrays.inputs]:
            raise DataError(f"{where}: no inputs of {', '.join(missing)}")
        present = arrays.present or {}
        lengths = {name: len(arrays.inputs[name]) for name in self.modalities}
        if arrays.rows is not None:
            lengths = {"rows": len(arrays.rows)}
        lengths |= {f"present[{name}]": len(mask) for name, mask in present.items()}
        lengths["label"] = len(arrays.label)
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise DataError(f"{where}: the lengths differ: {listed}")
        if not len(arrays.label):
            raise DataError(f"{where} is empty")
        if arrays.label.dtype != torch.int64 or arrays.label.ndim != 1:
            raise DataError(
                f"{where}: labels must be one int64 per sample, got "
                f"{tuple(arrays.label.shape)} of {arrays.label.dtype}"
            )
        lowest, highest = int(arrays.label.min()), int(arrays.label.max())
        if lowest < 0 or highest >= self.num_classes:
            raise DataError(
                f"{where}: labels must be 0 to {self.num_classes - 1} for {self.num_classes} "
                f"classes, found {lowest} to {highest}"
            )
        for name in self.modalities:
            values = arrays.inputs[name]
            if isinstance(values, Tensor):  # what lies in files was checked when it was written
                there = present.get(name) if arrays.rows is None else None
                check_finite(values, f"{where}, modality {name!r}", there)

    def _check_classes(self, label: Tensor) -> None:
        counts = torch.bincount(label, minlength=self.num_classes).tolist()
        absent = [name for name, n in zip(self.class_names, counts, strict=True) if n == 0]
        if absent:
            raise DataError(
                f"{self.name}: no training sample of class {', '.join(map(repr, absent))}. Add "
                "samples, or take the class out of the data."
            )


def _same(mask: Tensor, _epoch: int) -> Tensor:
    return mask


def _chosen(modalities: Sequence[str] | None, known: tuple[str, ...], name: str) -> tuple[str, ...]:
    if modalities is None:
        return known
    for given in modalities:
        if given not in known:
            raise ConfigError(
                f"{name} has no modality {given!r}.{near(given, known)} Known: {', '.join(known)}."
            )
    if not modalities or len(set(modalities)) < len(modalities):
        raise ConfigError(
            f"modalities must name at least one, each once, got {list(modalities)}. "
            f"Known: {', '.join(known)}."
        )
    return tuple(modalities)
