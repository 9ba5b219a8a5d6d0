"""One split of a data set: its samples, and checks of its inputs and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mla_lightning.data.loading import Rows
from mla_lightning.errors import DataError


@dataclass(frozen=True)
class Split:
    """The samples of one split.

    Attributes:
        inputs: Modality -> (N, ...); or more rows, if ``rows`` lists those of the split.
        label: (N,) int64, from 0 to the number of classes minus 1.
        present: Modality -> (N,) bool, False where the modality is absent; modalities that every
            sample has may be left out.
        rows: (N,) int64, the row of each sample in ``inputs``, for splits that share one file; None
            if row n is sample n.

    Example:
        Two samples that are rows 5 and 0 of a shared tensor; the second has no audio:

        >>> audio, has_audio = torch.arange(12.0).view(6, 2), torch.tensor([True, False])
        >>> split = Split({"audio": audio}, torch.tensor([0, 1]), {"audio": has_audio},
        ...               rows=torch.tensor([5, 0]))
        >>> split.inputs["audio"][split.rows][split.present["audio"]]
        tensor([[10., 11.]])
    """

    inputs: Mapping[str, Rows]
    label: Tensor
    present: Mapping[str, Tensor] | None = None
    rows: Tensor | None = None


def check_split(split: Split, modalities: Sequence[str], num_classes: int, where: str) -> None:
    """Check that a split has inputs of every modality, equal lengths and valid labels.

    Args:
        split: The split.
        modalities: The modalities in use.
        num_classes: Number of classes C.
        where: Name of data set and split, for messages.

    Raises:
        DataError: If something is wrong.
    """
    if absent := [name for name in modalities if name not in split.inputs]:
        raise DataError(f"{where}: no inputs of {', '.join(absent)}")
    lengths = {name: len(split.inputs[name]) for name in modalities}
    if split.rows is not None:
        lengths = {"rows": len(split.rows)}
    lengths |= {f"present[{name}]": len(mask) for name, mask in (split.present or {}).items()}
    lengths["label"] = len(split.label)
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{where}: the lengths differ: {listed}")
    label = split.label
    if not len(label):
        raise DataError(f"{where} is empty")
    if label.dtype != torch.int64 or label.ndim != 1:
        raise DataError(
            f"{where}: labels must be one int64 per sample, got {tuple(label.shape)} of "
            f"{label.dtype}"
        )
    lowest, highest = int(label.min()), int(label.max())
    if lowest < 0 or highest >= num_classes:
        raise DataError(
            f"{where}: labels must be 0 to {num_classes - 1} for {num_classes} classes, found "
            f"{lowest} to {highest}"
        )


def check_classes(label: Tensor, class_names: Sequence[str], name: str) -> None:
    """Check that every class has a training sample.

    Args:
        label: (N,) int64, labels of the training samples.
        class_names: The classes, in the order of the labels.
        name: Name of the data set, for messages.

    Raises:
        DataError: If a class has none.
    """
    counts = torch.bincount(label, minlength=len(class_names)).tolist()
    absent = [repr(c) for c, count in zip(class_names, counts, strict=True) if count == 0]
    if absent:
        raise DataError(
            f"{name}: no training sample of class {', '.join(absent)}. Add samples, or remove the "
            "class from the data."
        )


def check_finite(values: Tensor, where: str, present: Tensor | None = None) -> None:
    """Check that values are finite.

    Args:
        values: (N, ...).
        where: Name of the values, for the message.
        present: (N,) bool; rows that are absent may hold any value. None for all present.

    Raises:
        DataError: If a value is not finite; the message has the first row.

    Example:
        >>> check_finite(torch.tensor([[1.0], [torch.nan]]), "audio")
        Traceback (most recent call last):
        ...
        mla_lightning.errors.DataError: audio: row 1 holds values that are not finite ...
    """
    if not values.is_floating_point():
        return
    # A sum is finite only if all its terms are, and it is much cheaper than a check of each term.
    # As it may overflow, the check of each term decides.
    if values.sum().isfinite():
        return
    finite = values.isfinite().flatten(1).all(dim=1)
    if present is not None:
        finite |= ~present
    if not finite.all():
        row = int((~finite).nonzero()[0])
        raise DataError(
            f"{where}: row {row} holds values that are not finite ({int((~finite).sum())} of "
            f"{len(values)} rows do). Remove these samples, or mark the modality as absent in them."
        )
