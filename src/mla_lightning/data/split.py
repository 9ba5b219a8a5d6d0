"""One split of a data set: its samples, and checks of its inputs and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mla_lightning.data.loading import Rows
from mla_lightning.data.targets import TARGETS
from mla_lightning.errors import DataError
from mla_lightning.run_folder.tasks import CLASSIFICATION


@dataclass(frozen=True)
class Split:
    """The samples of one split.

    Attributes:
        inputs: Modality -> (N, ...); or more rows, if ``rows`` lists those of the split.
        label: (N,) int64, from 0 to the number of classes minus 1; of regression (N,) float32, in
            the target's own unit; of several labels (N, L) float32, 0 or 1.
        present: Modality -> (N,) bool, False where the modality is absent; modalities that every
            sample has may be left out.
        rows: (N,) int64, the row of each sample in ``inputs``, for splits that share one file; None
            if row n is sample n.
        groups: (N,) name of each sample's group (speaker, session), if the split keeps groups
            together: a part that is held out has whole groups. An empty name is a group alone.

    Example:
        Two samples that are rows 5 and 0 of a shared tensor; the second has no audio:

        >>> import torch
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
    groups: Sequence[str] | None = None


def check_split(
    split: Split,
    modalities: Sequence[str],
    num_outputs: int,
    where: str,
    task: str = CLASSIFICATION,
) -> None:
    """Check that a split has inputs of every modality, equal lengths and valid labels.

    Args:
        split: The split.
        modalities: The modalities in use.
        num_outputs: Number of outputs of a head: classes C or labels L, 1 for regression.
        where: Name of data set and split, for messages.
        task: The task of the labels.

    Raises:
        DataError: If something is wrong.
    """
    if absent := [name for name in modalities if name not in split.inputs]:
        raise DataError(f"{where}: no inputs of {', '.join(absent)}")
    lengths = {name: len(split.inputs[name]) for name in modalities}
    if split.rows is not None:
        lengths = {"rows": len(split.rows)}
    lengths |= {f"present[{name}]": len(mask) for name, mask in (split.present or {}).items()}
    if split.groups is not None:
        lengths["groups"] = len(split.groups)
    lengths["label"] = len(split.label)
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{where}: the lengths differ: {listed}")
    if not len(split.label):
        raise DataError(f"{where} is empty")
    TARGETS[task].check(split.label, num_outputs, where)


def check_finite(values: Tensor, where: str, present: Tensor | None = None) -> None:
    """Check that values are finite.

    Args:
        values: (N, ...).
        where: Name of the values, for the message.
        present: (N,) bool; rows that are absent may hold any value. None for all present.

    Raises:
        DataError: If a value is not finite; the message has the first row.

    Example:
        >>> import torch
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
