"""Base class of all data sets: checked splits, and loaders that can resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from mla_lightning.data.descriptions.base import DataDescription
from mla_lightning.data.loading import ArrayDataset, HiddenModalities, TrainLoader, loader_options
from mla_lightning.data.mask_files import write_masks
from mla_lightning.data.missing import masks_hash
from mla_lightning.data.order import SequentialOrder, TrainOrder
from mla_lightning.data.split import Split, check_finite, check_split
from mla_lightning.data.splits import HELD_OUT, SPLITS, held_out_part
from mla_lightning.data.targets import targets_of
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.inputs.base import Input
from mla_lightning.run_folder.tasks import REGRESSION

__all__ = ["SPLITS", "MultimodalDataModule", "Split"]


class MultimodalDataModule(DataDescription, LightningDataModule):  # type: ignore[misc]  # name
    """Base class of a data set of several modalities.

    A subclass sets ``name``, ``all_modalities`` and ``class_names``, as class attributes or before
    it calls this class's constructor, and defines :meth:`load_splits` and :attr:`fingerprint`.

    Attributes:
        splits: ``train``, ``val`` and ``test``, after :meth:`setup`, and ``held_out`` if a part of
            train is held out. The others are those of
            :class:`~mla_lightning.data.descriptions.base.DataDescription`.

    Example:
        >>> class Coins(MultimodalDataModule):
        ...     name, all_modalities, class_names = "coins", ("image", "weight"), ("cent", "euro")
        ...     fingerprint = "made up"
        ...     def load_splits(self):
        ...         label = torch.arange(6) % 2
        ...         inputs = {"image": torch.zeros(6, 3, 8, 8), "weight": torch.ones(6, 1)}
        ...         return dict.fromkeys(("train", "val", "test"), Split(inputs, label))
        >>> batch = next(iter(Coins(batch_size=4).train_dataloader()))
        >>> {name: tuple(x.shape) for name, x in batch["inputs"].items()}
        {'image': (4, 3, 8, 8), 'weight': (4, 1)}
    """

    # ------------------------------------------------------------------ defined by subclasses

    def load_splits(self) -> Mapping[str, Split]:
        """Read the data.

        Returns:
            ``train``, ``val`` and ``test``; inputs of modalities that are not in use are optional.

        Raises:
            DataError: If files are missing or broken.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define load_splits")

    def transform(
        self, inputs: dict[str, Tensor], generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        """Change one training sample at random; a data set with augmentation overrides this.

        Args:
            inputs: One sample: modality -> tensor without batch axis.
            generator: Source of all random numbers, a function of seed, epoch and sample, and of
                the copy if a training rule repeats samples.

        Returns:
            The sample to train on, of the same shapes in every epoch; by default ``inputs``.
        """
        return inputs

    @property
    def inputs(self) -> Mapping[str, Input]:
        """Modality -> conversion of its rows to the encoder's input; by default rows are that."""
        return {}

    # ------------------------------------------------------------------ provided to users

    def target_scale(self) -> tuple[float, float]:
        """Compute mean and standard deviation of a regression target on the training split.

        Returns:
            Mean and standard deviation (of N, not N - 1), in the target's unit.

        Raises:
            ConfigError: If the task is another one.
            DataError: For the reasons of :meth:`setup`, such as a target that is constant.
        """
        if self.task != REGRESSION:
            raise ConfigError(f"{self.name} has no target to be scaled: its task is {self.task}")
        self.setup()
        target = self.splits["train"].label.double()
        return float(target.mean()), float(target.std(correction=0))

    def setup(self, stage: str | None = None) -> None:
        """Read and check the data, once.

        Args:
            stage: Ignored: all splits are read together.

        Raises:
            DataError: If a split is empty, its tensors differ in length, a label is out of range, a
                class or label has no training sample, a target is constant in training, or an input
                is not finite.
        """
        if self.splits:
            return
        loaded = self.load_splits()
        is_transformed = type(self).transform is not MultimodalDataModule.transform
        splits = {}
        for split in SPLITS:
            if split not in loaded:
                raise DataError(f"{self.name} has no split {split!r}.{near(split, loaded)}")
            tensors = loaded[split]
            self._check(split, tensors)
            splits[split] = ArrayDataset(
                {name: tensors.inputs[name] for name in self.modalities},
                tensors.label,
                rows=tensors.rows,
                present=tensors.present,
                transform=self.transform if is_transformed and split == "train" else None,
                seed=self.seed,
            )
        targets = targets_of(self.task, self.name)
        targets.check_train(splits["train"].label, self.class_names, self.name)
        self.splits = splits
        self._set_masks()
        if self.held_out:
            self._hold_out(loaded["train"])

    def part_to_hold_out(self, train: Split) -> np.ndarray:
        """Choose the samples of train that are held out (``held_out``).

        Args:
            train: The training split.

        Returns:
            (N,) bool, a function of the data alone.

        Raises:
            DataError: If there are too few samples or groups.
        """
        strata = targets_of(self.task, self.name).strata(train.label.numpy(), self.class_names)
        return held_out_part(strata, self.held_out, train.groups)

    def _hold_out(self, train: Split) -> None:
        """Divide train; what is hidden of a sample is the same in either part."""
        is_held_out = torch.from_numpy(self.part_to_hold_out(train))
        whole = self.splits["train"]
        parts = {"train": ~is_held_out, HELD_OUT: is_held_out}
        for name, chosen in parts.items():
            if not chosen.any():
                raise DataError(
                    f"data.held_out={self.held_out}: no part of the {len(whole)} training samples "
                    f"of {self.name} can be held out without their last samples of a class. Use "
                    "another fraction, such as data.held_out=0.2, or more data."
                )
            self._numbers[name] = chosen.nonzero()[:, 0]
            self.splits[name] = whole.part(self._numbers[name])

    @property
    def is_complete(self) -> bool:
        """Return whether all batches have all modalities (zeros of ``zero_input`` count)."""
        self.setup()
        if self.missing is not None and self.missing.policy == "drop":
            return False
        return all(bool(m.all()) for data in self.splits.values() for m in data.present.values())

    def _set_masks(self) -> None:
        """Hide modalities by the protocol; every sample keeps one, and every modality some."""
        present = {s: torch.stack([*d.present.values()], dim=1) for s, d in self.splits.items()}
        for split, mask in present.items():
            is_empty = ~mask.any(dim=1)
            if is_empty.any():
                raise DataError(
                    f"{self.name}, split {split!r}: sample {int(is_empty.nonzero()[0])} has none "
                    f"of {', '.join(self.modalities)}. Remove it from the data."
                )
        self.masks = present
        if self.missing is not None:
            masks = self.missing.split_masks(present, self._mask_source(), self.seed)
            self.masks = {**present, **masks}
            for split, mask in masks.items():
                is_drop = self.missing.policy == "drop"
                hidden = HiddenModalities(partial(_same_mask, mask), marks_absent=is_drop)
                if split == "train" and self.missing.resample_train_masks:
                    arguments = (present[split], self.modalities, self.seed, self.split_name)
                    draw = partial(self.missing.epoch_mask, *arguments)
                    hidden.mask = lru_cache(maxsize=2)(draw)
                self.splits[split].hidden = hidden
        is_used = self.masks["train"].any(dim=0).tolist()
        for name, is_present in zip(self.modalities, is_used, strict=True):
            if not is_present:
                raise DataError(
                    f"{self.name}: {name!r} is absent from all training samples, so its encoder "
                    f"cannot be trained. Leave it out (modalities), or lower missing.rate."
                )

    def _mask_source(self) -> dict[str, Any]:
        """Return the data, split and modalities that masks belong to."""
        return {
            "data": self.fingerprint,
            "split": self.split_name,
            "modalities": list(self.modalities),
        }

    def write_masks(self, folder: Path) -> None:
        """Write the masks to a file that other runs can use (``missing.manifest``).

        Masks that were read from such a file are not written again.

        Args:
            folder: Folder of the file.
        """
        assert self.missing is not None
        if self.missing.manifest is not None:
            return
        protocol = {"name": self.name, "seed": self.seed, **self.missing.protocol}
        digest = f"{masks_hash(self.masks)[:10]}-{self.fingerprint[:6]}"
        path = folder / f"{self.name}-{self.missing.sampler}-seed{self.seed}-{digest}.npz"
        ids = {
            split: self.sample_names(split, range(len(mask))) for split, mask in self.masks.items()
        }
        write_masks(path, self.masks, ids, {**self._mask_source(), **protocol})

    def keep_truth(self) -> None:
        """Include hidden inputs in training batches, for methods that learn to reconstruct them."""
        hiding = self.splits["train"].hidden
        if hiding is not None:
            hiding.keeps_truth = True

    def describe(self) -> dict[str, Any]:
        """Summarise the data for the record of a run.

        Returns:
            ``split`` (the split's name), ``modalities``, ``num_train``, ``num_val``, ``num_test``,
            ``num_held_out`` if a part of train is held out, which ``num_train`` does not count, and
            ``class_counts`` (split -> class -> number of samples). In place of the latter
            ``task`` and, of regression, ``target`` (split -> ``min``, ``max``, ``mean``, ``sd``);
            of several labels, ``label_counts`` (split -> label -> number of samples that have it).
        """
        self.setup()
        labels = {split: data.label for split, data in self.splits.items()}
        return {
            "split": self.split_name,
            "modalities": list(self.modalities),
            "is_complete": self.is_complete,
            **{f"num_{split}": len(data) for split, data in self.splits.items()},
            **targets_of(self.task, self.name).summary(labels, self.class_names),
        }

    def sample_names(self, split: str, numbers: Sequence[int]) -> list[str]:
        """Return readable names of samples of a split; by default their numbers.

        Of train they are those of the whole split, also if a part is held out.
        """
        return [f"{split} {number}" for number in numbers]

    def names_of(self, split: str) -> list[str]:
        """Return the names of the samples of :meth:`loader` in their order; of a split, or a part.

        Args:
            split: ``train``, ``val`` or ``test``; or ``held_out``, if a part of train is.
        """
        data = self._split(split)
        numbers = self._numbers[split].tolist() if split in self._numbers else range(len(data))
        return self.sample_names("train" if split == HELD_OUT else split, numbers)

    # ------------------------------------------------------------------ loaders

    def train_dataloader(self) -> TrainLoader:
        """Return a loader of the training split in a new order every epoch, from the first one."""
        data = self._split("train")
        order = TrainOrder(len(data), self.batch_size, self.seed)
        return TrainLoader(data, sampler=order, **loader_options(self.num_workers))

    def val_dataloader(self) -> DataLoader:
        """Return a loader of the validation split, in the order of its samples."""
        return self.loader("val")

    def test_dataloader(self) -> DataLoader:
        """Return a loader of the test split, in the order of its samples."""
        return self.loader("test")

    def loader(self, split: str, *, is_shared: bool = False) -> DataLoader:
        """Return a loader for evaluation.

        Args:
            split: ``train``, ``val`` or ``test``; or ``held_out``, if a part of train is.
            is_shared: Whether every rank has its part of each batch, not all of it.

        Returns:
            A loader of the split in the order of its samples, without random transforms.

        Raises:
            ConfigError: If the split is unknown.
        """
        data = self._split(split)
        if data.transform is not None or (data.hidden and data.hidden.keeps_truth):
            hidden = replace(data.hidden, keeps_truth=False) if data.hidden else None
            data = ArrayDataset(
                data.inputs, data.label, rows=data.rows, present=data.present, hidden=hidden
            )
        order = SequentialOrder(len(data), self.eval_batch_size, is_shared=is_shared)
        return DataLoader(data, sampler=order, **loader_options(self.num_workers))

    def _split(self, split: str) -> ArrayDataset:
        known = (*SPLITS, HELD_OUT) if self.held_out else SPLITS
        if split not in known:
            hint = f"{near(split, known)} Known: {', '.join(known)}."
            raise ConfigError(f"{self.name} has no split {split!r}.{hint}")
        self.setup()
        return self.splits[split]

    # ------------------------------------------------------------------ checks

    def _check(self, name: str, split: Split) -> None:
        where = f"{self.name}, split {name!r}"
        check_split(split, self.modalities, self.num_classes, where, self.task)
        for modality in self.modalities:
            values = split.inputs[modality]
            if isinstance(values, Tensor):  # values in files were checked when they were written
                present = (split.present or {}).get(modality) if split.rows is None else None
                check_finite(values, f"{where}, modality {modality!r}", present)


def _same_mask(mask: Tensor, _epoch: int) -> Tensor:
    return mask
